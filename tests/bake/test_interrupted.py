"""Whatever ends a bake early, nothing is left that looks like a dataset, and the next bake goes on from there."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest

from positronic import keys
from positronic.bake import pieces
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.pieces import Pieces, pieces_path
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.layout import episode_path
from positronic.storage import partial_path

VERSIONS = {"commit": None, "dirty": None, "versions": {}}

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
MANY, FEW = 60, 12  # episodes: more than are baked before a signal comes; more than are under way at once
BAKE = """
import signal, sys
import positronic
from positronic.bake.convert import BakeOptions, Progress, bake
from positronic.codecs.build import build
from positronic.raw.dataset import open_dataset

class Tell(Progress):
    def episode_done(self, done):
        if done == 2:
            print("under way", flush=True)
            if waits == "waits":
                signal.pause()

if __name__ == "__main__":
    raw, output, workers, waits = sys.argv[1:]
    config = positronic.compose(["stage=convert", "vendor=lerobot", "codec=ee", "dataset.path=unused"])
    options = BakeOptions("lerobot", num_workers=int(workers))
    versions = {"commit": None, "dirty": None, "versions": {}}
    bake(open_dataset(raw), build(config.codec, config.modality), output, options, versions, Tell())
"""


@pytest.fixture(params=[MANY])
def raw(tmp_path, request):
    """So many episodes, each with a content of its own."""
    for number in range(request.param):
        folder = episode_path(tmp_path / "raw", number)
        shutil.copytree(episode_path(PUBLISHED, number % 3), folder)
        (folder / "static.json").write_text(json.dumps({"task": f"task {number}"}))
    return tmp_path / "raw"


@pytest.fixture
def under_way(tmp_path, raw):
    """Starts a bake in a process group of its own and waits until two episodes are done.

    The bake then goes on, or ``waits`` for the signal; its workers end what they were given.
    """
    script, started = tmp_path / "bake.py", []
    script.write_text(BAKE)

    def start(workers, then="goes on"):
        command = [sys.executable, script, raw, tmp_path / "out" / "baked", str(workers), then]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == "under way\n"
        assert (partial_path(tmp_path / "out" / "baked") / "data").exists()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def bake_all(raw, output, recipe):
    return bake(open_dataset(raw), recipe(side=224), output, BakeOptions("lerobot", num_workers=1), VERSIONS)


def finished(output):
    """The episodes that an interrupted bake left: they lie under what they were baked with."""
    return [path for path in sorted(pieces_path(output).glob("*/*")) if "unfinished" not in path.name]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_no_dataset(under_way, tmp_path, workers):
    """SIGINT to the whole group, as a terminal sends it: finished pieces, but no dataset and no process."""
    process = under_way(workers)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    assert list((tmp_path / "out").iterdir()) == [pieces_path(tmp_path / "out" / "baked")]
    assert process.stdout.read() == ""  # comes to its end when the last process that could write has ended


@pytest.mark.parametrize("raw", [FEW], indirect=True)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_next_bake_goes_on_and_gives_the_same_bytes(under_way, tmp_path, raw, recipe, how):
    """It takes over every finished episode, and the result is that of a bake that nobody stopped."""
    process, output = under_way(2, "waits"), tmp_path / "out" / "baked"
    os.killpg(process.pid, how)
    process.wait()
    done = finished(output)
    assert 2 <= len(done) < FEW
    report = bake_all(raw, output, recipe)
    assert report.resumed == len(done)
    assert list((tmp_path / "out").iterdir()) == [output]
    bake_all(raw, tmp_path / "whole", recipe)
    assert contents(output) == contents(tmp_path / "whole")


def test_pieces_of_another_bake_are_not_used(under_way, tmp_path, raw, recipe):
    """Other settings begin anew: here smaller images."""
    process, output = under_way(1), tmp_path / "out" / "baked"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    report = bake(open_dataset(raw)[:2], recipe(), output, BakeOptions("lerobot", num_workers=1), VERSIONS)
    assert (report.resumed, report.episodes) == (0, 2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["baked"]


def test_a_bad_episode_costs_none_of_the_good_ones(record, recipe, baked, tmp_path):
    """What was baked before it was found is taken over when it is left out."""
    record(seed=1)
    folder = record(seed=2)[1].path
    (folder / f"{keys.GRIP}.parquet").unlink()
    with pytest.raises(PositronicError, match="1 of 2 episodes are bad"):
        baked(open_dataset(tmp_path / "raw"), recipe())
    options = BakeOptions("lerobot", num_workers=1, on_bad_episode="skip")
    report = bake(open_dataset(tmp_path / "raw"), recipe(), tmp_path / "baked", options, VERSIONS)
    assert (report.episodes, report.resumed) == (1, 1)


@pytest.fixture
def stopped(record, recipe, baked, tmp_path):
    """Returns the pieces of a bake of two good episodes and a bad one; ``go_on(format)`` leaves the bad one out."""
    for seed in range(3):
        folder = record(seed=seed)[seed].path
    (folder / f"{keys.GRIP}.parquet").unlink()
    with pytest.raises(PositronicError, match="1 of 3 episodes are bad"):
        baked(open_dataset(tmp_path / "raw"), recipe())
    return finished(tmp_path / "baked")


@pytest.fixture
def go_on(recipe, tmp_path):
    def again(dataset_format="v3.0"):
        options = BakeOptions("lerobot", dataset_format, num_workers=1, on_bad_episode="skip")
        return bake(open_dataset(tmp_path / "raw"), recipe(), tmp_path / "baked", options, VERSIONS)

    return again


@pytest.mark.parametrize("dataset_format", ["v3.0", "v2.1"])
@pytest.mark.parametrize(("file", "left"), [("0.mp4", 0), ("1.mp4", 500), ("histograms.npy", 0)])
def test_a_piece_that_a_power_cut_damaged_is_baked_again(stopped, go_on, tmp_path, file, left, dataset_format):
    """Its folder was renamed, but what was in it never reached the disk."""
    os.truncate(stopped[0] / file, left)
    report = go_on(dataset_format)
    assert (report.episodes, report.resumed) == (2, 1)
    for path in (tmp_path / "baked").rglob("*.mp4"):
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == container.streams.video[0].frames > 0


def test_a_worker_that_outlives_its_bake_hands_nothing_to_another(stopped, tmp_path):
    """It may still finish an episode after other settings were typed: its folder is its own."""
    left = stopped[0].parent
    with Pieces(pieces_path(tmp_path / "baked"), {"crf": 30}) as others:
        assert not left.exists()
        (left / "late").mkdir(parents=True)
        assert list(others.folder.iterdir()) == []
    assert not pieces_path(tmp_path / "baked").exists()


def test_pieces_of_other_code_are_not_used(stopped, go_on, monkeypatch, tmp_path):
    """A commit says nothing of what was changed since: the source itself is asked."""
    monkeypatch.setattr(pieces, "PACKAGE", tmp_path / "raw")
    assert go_on().resumed == 0


def test_an_episode_that_cannot_be_decoded_leaves_no_half_of_itself(record, recipe, baked, tmp_path, caplog):
    """What is said to be kept are whole episodes."""
    record(seed=1)
    video = record(seed=2)[1].path / f"{keys.IMAGE_EXTERIOR}.mp4"
    content = bytearray(video.read_bytes())
    where = content.index(b"mdat") + 4
    content[where : where + 400] = bytes(400)
    video.write_bytes(content)
    with pytest.raises(PositronicError, match="1 of 2 episodes are bad"):
        baked(open_dataset(tmp_path / "raw"), recipe())
    assert "1 baked episode is kept" in caplog.text
    assert [path.name for path in pieces_path(tmp_path / "baked").glob("*/*")] == [
        path.name for path in finished(tmp_path / "baked")
    ]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_episode_that_is_there_twice_comes_from_no_interrupted_bake(record, recipe, tmp_path, num_workers):
    """The second copy finds what the first has just encoded."""
    first = record(seed=1)[0].path
    shutil.copytree(first, first.with_name(f"{7:012d}"))
    options = BakeOptions("lerobot", num_workers=num_workers)
    report = bake(open_dataset(tmp_path / "raw"), recipe(), tmp_path / "baked", options, VERSIONS)
    assert (report.episodes, report.repeated, report.resumed) == (2, 1, 0)
