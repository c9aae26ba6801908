"""HDF5 files that are not whole are refused with what to do."""

import io
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from positronic.errors import PositronicError
from positronic.importing import hdf5_layouts as layouts
from positronic.importing.hdf5_file import datasets, open_hdf5, require_written, samples
from positronic.importing.hdf5_pictures import frame_of, picture_encoding

ENDED = """
import os, sys, h5py, numpy as np
file = h5py.File(sys.argv[1], "w", libver="latest")
file["action"] = np.zeros((100, 14))
file.flush()
os._exit(1)
"""


def refused(path):
    with pytest.raises(PositronicError) as error, open_hdf5(path):
        pass
    return str(error.value)


READS = """
import sys
from pathlib import Path
from positronic.importing.hdf5_file import open_hdf5
with open_hdf5(Path(sys.argv[1])):
    pass
"""


def run(code, path):
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_that_is_being_written_is_refused(tmp_path, libver):
    """As long as the writer has it open; afterwards it is read."""
    path = tmp_path / "episode_0.hdf5"
    with h5py.File(path, "w", libver=libver) as file:
        file["action"] = np.zeros((10, 14))
        file.flush()
        other = run(READS, path)
    assert f"{path}: another program has it open for writing" in other.stderr
    with open_hdf5(path) as file:
        assert list(datasets(file)) == ["action"]


def test_a_file_whose_writer_was_ended_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "episode_0.hdf5"
    run(ENDED, path)
    assert "h5clear" in refused(path)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "episode_0.hdf5"
    with h5py.File(path, "w") as file:
        file["action"] = np.zeros((100, 14))
    path.write_bytes(path.read_bytes()[:-500])
    assert "the file is cut off" in refused(path)


@pytest.mark.parametrize("content", [b"", b"no HDF5"])
def test_what_is_no_hdf5_is_refused(tmp_path, content):
    path = tmp_path / "episode_0.hdf5"
    path.write_bytes(content)
    assert "no HDF5 file" in refused(path)


@pytest.mark.parametrize(("chunks", "written"), [((10, 14), "7 of its 10 chunks"), (None, "nothing of it")])
def test_a_dataset_that_is_filled_later_is_refused_until_it_is(tmp_path, chunks, written):
    """Recorders make it at full length first."""
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        data = file.create_dataset("action", (100, 14), "f8", chunks=chunks)
        if chunks:
            data[:70] = 1
        with pytest.raises(PositronicError, match=f"action: {written} was written"):
            require_written(data, "action")
        data[:] = 1
        require_written(data, "action")


@pytest.mark.parametrize("chunks", [None, (1, 3), (7, 2)])
def test_samples_come_in_order_however_they_are_stored(tmp_path, chunks):
    values = np.arange(150).reshape(50, 3)
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        data = file.create_dataset("action", data=values, chunks=chunks)
        assert np.array_equal(list(samples(data)), values)


def test_an_episode_is_as_long_as_its_action(tmp_path):
    """robomimic's states are one longer in some files."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["action"], file["states"], file["more"] = np.zeros((5, 2)), np.zeros((6, 2)), np.zeros(6)
        assert layouts.length(file, "a.hdf5") == 5
        del file["action"]
        assert layouts.length(file, "a.hdf5") == 6
        file["other"], file["last"] = np.zeros(5), np.zeros(5)
        with pytest.raises(PositronicError, match="no episode. Expected datasets whose first dimension is time"):
            layouts.length(file, "a.hdf5")


RED = np.full((2, 4, 6, 3), (200, 0, 0), np.uint8)


def jpeg_of(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=0)
    return np.frombuffer(file.getvalue(), np.uint8)


def stored(file, how):
    """The two red frames in one of the ways in which recorders keep them."""
    files = [jpeg_of(frame) for frame in RED]
    if how == "rows":
        file["x"] = np.stack(files)
    elif how == "bytes":
        file["x"] = np.array([each.tobytes() for each in files], f"S{len(files[0]) + 3}")
    elif how == "lengths":
        data = file.create_dataset("x", (2,), h5py.vlen_dtype(np.uint8))
        data[0], data[1] = files
    elif how == "opaque":
        file["x"] = np.array([np.void(each.tobytes()) for each in files])
    else:
        file["x"] = RED if how == "pixels" else np.moveaxis(RED, -1, 1)
    return file["x"]


@pytest.mark.parametrize("how", ["pixels", "channels first", "rows", "bytes", "lengths", "opaque"])
def test_pictures_are_found_in_every_way_that_recorders_keep_them(tmp_path, how):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        data = stored(file, how)
        encoding = picture_encoding(data)
        frames = [frame_of(sample, encoding, "rgb", "x") for sample in samples(data)]
    assert np.abs(np.stack(frames).astype(int) - RED).max() <= 3


@pytest.mark.parametrize(
    "values", [np.zeros((2, 14)), np.zeros((2, 9), np.uint8), np.zeros((2, 4, 6)), np.array([b"a"])]
)
def test_other_datasets_are_no_pictures(tmp_path, values):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["x"] = values
        assert picture_encoding(file["x"]) is None
