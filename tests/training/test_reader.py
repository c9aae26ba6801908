"""Reading a baked dataset: vectors, places of frames, frames."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.bake import frame_source
from positronic.bake.frame_source import DecodedFrames, fits_in_memory, in_memory
from positronic.bake.reader import open_baked
from positronic.errors import PositronicError

CAMERA = "observation.images.side"


@pytest.fixture
def copy(baked_path, tmp_path):
    """A dataset that may be damaged."""
    return shutil.copytree(baked_path, tmp_path / "copy")


def test_vectors_are_what_was_baked(dataset):
    """Columns hold the canonical features side by side, episodes one after another, tasks by episode."""
    assert len(dataset) == 19
    assert dataset.starts.tolist() == [0, 12]
    assert dataset.ends.tolist() == [12, 19]
    assert {name: table.shape for name, table in dataset.vectors.items()} == {
        "observation.state": (19, 8),
        "action": (19, 8),
    }
    state, action = dataset.vectors["observation.state"], dataset.vectors["action"]
    np.testing.assert_allclose(action[:, 0] - state[:, 0], 0.1, atol=1e-6)
    np.testing.assert_allclose(state[:, 7], [k / n for n in (12, 7) for k in range(n)], atol=1e-6)
    assert [dataset.tasks[i] for i in dataset.task_of[[0, 11, 12, 18]]] == ["task 0", "task 0", "task 1", "task 1"]


@pytest.mark.parametrize("source", [in_memory, DecodedFrames])
def test_every_row_has_its_own_frame(dataset, source):
    """From memory and decoded on demand alike, in any order, across episodes in one file."""
    rows = np.array([18, 0, 1, 0, 12, 11, 5])
    levels = source(dataset).get(CAMERA, rows).mean(axis=(1, 2, 3))
    expected = [12 * (row - 12) + 30 if row >= 12 else 12 * row for row in rows]
    np.testing.assert_allclose(levels, expected, atol=3)  # limited-range H.264


def test_cache_gb_is_a_wish_and_what_is_free_is_the_limit(dataset, monkeypatch):
    """Frames that fit in neither stay on the disk."""
    assert fits_in_memory(dataset, 8.0)
    assert not fits_in_memory(dataset, 0.0)
    monkeypatch.setattr(frame_source, "available_bytes", lambda: 100)
    assert not fits_in_memory(dataset, 8.0)


def test_progress_counts_all_frames(dataset):
    """The bar ends where it said it would."""
    seen = []
    in_memory(dataset, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (38, 38)


def test_a_truncated_video_names_its_file(copy):
    """A damaged video stops the run before training, and the message says which file."""
    video = next((copy / "videos" / CAMERA).glob("*/*.mp4"))
    video.write_bytes(video.read_bytes()[:-400])
    with pytest.raises(PositronicError, match=rf"{CAMERA}/.*\.mp4"):
        in_memory(open_baked(copy))


def test_a_missing_column_is_named_with_those_there(copy):
    """A data file that is not what the manifest says is refused."""
    path = next((copy / "data").glob("*/*.parquet"))
    pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    with pytest.raises(PositronicError, match=r"expected column 'action', found .*observation\.state"):
        open_baked(copy)


def test_rows_that_the_episodes_do_not_cover_are_refused(copy):
    """A data file that lost rows is noticed before a chunk reaches into another episode."""
    path = next((copy / "data").glob("*/*.parquet"))
    pq.write_table(pq.read_table(path).slice(0, 15), path)
    with pytest.raises(PositronicError, match=r"file-000.parquet, episode 1: the file holds 15 rows, expected 19"):
        open_baked(copy)


def test_a_dataset_without_frames_is_refused(copy):
    """Nothing to train on is said, not met as an index error."""
    path = next((copy / "data").glob("*/*.parquet"))
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(PositronicError, match=r"file-000.parquet, episode 0: the file holds 0 rows, expected 19"):
        open_baked(copy)


@pytest.mark.parametrize("name", ["meta/stats.json", "meta/info.json", "meta/tasks.parquet"])
def test_an_incomplete_dataset_names_what_is_missing(copy, name):
    """Which file, and that the dataset has to be made again."""
    (copy / name).unlink()
    with pytest.raises(PositronicError, match=rf"{name} is missing.*Convert it again"):
        open_baked(copy)


def test_a_foreign_dataset_is_refused(copy):
    """A LeRobot dataset that does not say what its numbers mean is not trained on."""
    (copy / keys.MANIFEST_FILE).unlink()
    with pytest.raises(PositronicError, match="was not baked by Positronic"):
        open_baked(copy)
