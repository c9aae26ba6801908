"""Which samples make up a step, and what is in a batch."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from positronic.bake.frame_source import DecodedFrames, in_memory
from positronic.bake.reader import open_baked
from positronic.errors import PositronicError
from positronic.training import batches as making
from positronic.training.batches import BatchMaker, SampleOrder, iterate

CAMERA = "observation.images.side"


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 3))
def test_every_epoch_shows_every_row_once(count, batch_size, seed):
    """Whatever the batch size, the first two epochs laid end to end are two permutations."""
    order = SampleOrder(count, batch_size, seed)
    steps = -(-2 * count // batch_size)
    rows = np.concatenate([order.rows(step) for step in range(steps)])
    assert sorted(rows[:count]) == sorted(rows[count : 2 * count]) == list(range(count))


def test_the_order_depends_on_seed_and_step_only():
    """Step 7 asked for first is step 7 asked for last; another seed is another order."""
    order = SampleOrder(100, 8, seed=1)
    late = order.rows(7)
    for step in range(7):
        order.rows(step)
    np.testing.assert_array_equal(order.rows(7), late)
    assert not np.array_equal(SampleOrder(100, 8, seed=2).rows(7), late)


def maker(dataset, offsets, batch_size=19, with_task=False):
    return BatchMaker(dataset, in_memory(dataset), SampleOrder(len(dataset), batch_size, 0), offsets, with_task)


@pytest.mark.parametrize("offsets", [np.arange(4), np.arange(-1, 30)])
def test_chunks_end_with_their_episode(dataset, offsets):
    """Each chunk equals one gathered step by step; beyond its episode the nearest action repeats, marked as padding."""
    batches = maker(dataset, offsets)
    batch, rows = batches[0], SampleOrder(19, 19, 0).rows(0)
    for i, row in enumerate(rows):
        first, end = (0, 12) if row < 12 else (12, 19)
        for j, offset in enumerate(offsets):
            inside = min(max(row + offset, first), end - 1)
            np.testing.assert_array_equal(batch["action"][i, j], dataset.vectors["action"][inside])
            assert batch["action_is_pad"][i, j] == (inside != row + offset)


def test_a_batch_is_one_moment_in_every_column(dataset):
    """State, frame and first action of a sample belong to the same row."""
    batch, rows = maker(dataset, np.arange(2))[0], SampleOrder(19, 19, 0).rows(0)
    np.testing.assert_array_equal(batch["observation.state"], dataset.vectors["observation.state"][rows])
    np.testing.assert_array_equal(batch["action"][:, 0], dataset.vectors["action"][rows])
    expected = [12 * (row - 12) + 30 if row >= 12 else 12 * row for row in rows]
    np.testing.assert_allclose(batch[CAMERA].mean(axis=(1, 2, 3)), expected, atol=3)


def test_the_task_comes_only_when_it_is_asked_for(dataset):
    """Policies without language never see the text."""
    assert "task" not in maker(dataset, np.arange(2))[0]
    tasks = maker(dataset, np.arange(2), with_task=True)[0]["task"]
    assert tasks == [f"task {int(row >= 12)}" for row in SampleOrder(19, 19, 0).rows(0)]


def equal(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def arrays(batch):
    return {name: value.numpy() if hasattr(value, "numpy") else value for name, value in batch.items()}


def test_a_thread_makes_the_same_batches_ahead(dataset):
    """From any step on, in order."""
    batches = maker(dataset, np.arange(3), batch_size=4)
    made = list(iterate(batches, 2, 7, num_workers=0))
    assert all(equal(batch, batches[step]) for step, batch in zip(range(2, 7), made, strict=True))


def test_processes_make_the_same_batches_ahead(dataset):
    """num_workers changes who decodes, nothing else."""
    order = SampleOrder(len(dataset), 4, 0)
    batches = BatchMaker(dataset, DecodedFrames(dataset), order, np.arange(3), with_task=True)
    made = list(iterate(batches, 0, 4, num_workers=2))
    assert all(equal(arrays(batch), batches[step]) for step, batch in zip(range(4), made, strict=True))


def test_an_error_while_making_a_batch_reaches_the_loop(dataset):
    """It is raised where the batch is taken, not lost in a thread."""

    class Broken:
        def __getitem__(self, step):
            raise ValueError("row 3 is broken")

    with pytest.raises(ValueError, match="row 3 is broken"):
        next(iterate(Broken(), 0, 4, num_workers=0))


@pytest.fixture
def decoding(baked_path, tmp_path):
    """``(a copy of the dataset, 1000 batches of it made by a process)``."""
    shutil.copytree(baked_path, tmp_path / "copy")
    dataset = open_baked(tmp_path / "copy")
    made = BatchMaker(dataset, DecodedFrames(dataset), SampleOrder(len(dataset), 4, 0), np.arange(3), False)
    batches = iterate(made, 0, 1000, num_workers=1)
    yield tmp_path / "copy", batches
    batches.close()


def test_a_damaged_video_is_a_sentence_also_when_a_process_finds_it(decoding):
    """The file is named, and no traceback is in the text."""
    folder, batches = decoding
    for video in folder.rglob("*.mp4"):
        video.write_bytes(b"")
    with pytest.raises(PositronicError, match=r"\.mp4") as refused:
        next(batches)
    assert "Traceback" not in str(refused.value)


def test_a_decoder_that_is_killed_is_a_sentence(decoding):
    """For lack of memory, say: what it was, and what to type."""
    _, batches = decoding
    next(batches)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(PositronicError, match=r"decodes frames ended unexpectedly.*num_workers=1.*resume=true"):
        list(batches)


def test_leaving_early_ends_the_thread(dataset):
    """A loop that stops does not leave a thread waiting behind a full queue."""
    batches = iterate(maker(dataset, np.arange(3), batch_size=4), 0, 1000, num_workers=0)
    next(batches)
    batches.close()
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_a_disk_that_does_not_answer_is_left(monkeypatch):
    """The thread that reads from it cannot be ended; nobody waits for it for ever."""
    monkeypatch.setattr(making, "LEAVE_SEC", 0.0)
    answered = threading.Event()

    class Hanging:
        def __getitem__(self, step):
            return {} if step == 0 or answered.wait() else None

    batches = iterate(Hanging(), 0, 4, num_workers=0)
    next(batches)
    batches.close()
    answered.set()


@pytest.fixture
def with_shared_memory(tmp_path):
    """``with_shared_memory(code)``: what a script prints where /dev/shm has 256 KB."""

    def run(code):
        (tmp_path / "script.py").write_text(code)
        mount = f"mount -t tmpfs -o size=256k none /dev/shm || exit 99; {sys.executable} script.py"
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", mount],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(making.__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        if "unshare" in done.stderr or done.returncode == 99:
            pytest.skip("no disk of our own can be mounted here")
        return done.stdout + done.stderr

    return run


HANDING_OVER = """
import numpy
from positronic.errors import PositronicError
from positronic.training.batches import iterate

class Made:
    def __init__(self, *batches):
        self.batches = batches
    def __getitem__(self, step):
        return {"a": numpy.zeros(self.batches[step])} if step < 2 else {"a": (each for each in "a")}

if __name__ == "__main__":
    for sizes in ((10, 100_000), (10, 10)):
        try:
            for batch in iterate(Made(*sizes), 0, 4, num_workers=1):
                print(batch["a"].shape[0])
        except PositronicError as error:
            print(error)
"""


def test_a_batch_that_cannot_be_handed_over_is_a_sentence(with_shared_memory):
    """Whether shared memory is full, as another program may fill it, or for whatever reason: nobody waits for it."""
    said = with_shared_memory(HANDING_OVER)
    first, full, *others = said.splitlines()  # Python's own warnings may come last
    assert first == "10", said
    assert full.startswith("A process that decodes frames cannot hand over its batch in shared memory: /dev/shm has ")
    assert "Type num_workers=0" in full
    assert any(line.startswith("A process that decodes frames ended unexpectedly.") for line in others), said
