"""Where a run's frames come from changes its speed and nothing else."""

import io
import json
import signal

import numpy as np
import pytest
from rich.console import Console

import positronic
from positronic.bake.filling import FillingFrames, MemoryTarget
from positronic.bake.frame_cache import DiskTarget, on_disk
from positronic.bake.frame_source import DecodedFrames, MappedFrames, in_memory
from positronic.stages.train import run
from positronic.storage import StorageConfig
from positronic.storage.entries import CacheError
from positronic.training.batches import BatchMaker, SampleOrder, iterate
from positronic.training.frames import open_sides
from positronic.training.settings import TrainSettings


@pytest.fixture
def opened(dataset, tmp_path):
    """``opened(cache_gb=, frame_cache=, disk_gb=)``: the frames of both sides, and what was said."""

    def open_with(disk_gb=1.0, held_out=None, **changes):
        settings = TrainSettings(1, 1, 1, 1, **changes)
        storage, said = StorageConfig(cache_dir=str(tmp_path / "cache"), cache_gb=disk_gb), io.StringIO()
        sides = open_sides(dataset, held_out, settings, storage, Console(file=said, width=200))
        to_close.append(sides)
        return sides.training, sides.held_out, said.getvalue()

    to_close = []
    yield open_with
    for sides in to_close:
        sides.close()


def kind_of(frames):
    return type(frames._target if isinstance(frames, FillingFrames) else frames)


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ({"cache_gb": 1.0}, MemoryTarget),
        ({"cache_gb": 1.0, "frame_cache": "none"}, MemoryTarget),
        ({"cache_gb": 0.0}, DiskTarget),
        ({"cache_gb": 1.0, "frame_cache": "disk"}, DiskTarget),
        ({"cache_gb": 0.0, "frame_cache": "none"}, DecodedFrames),
        ({"cache_gb": 0.0, "disk_gb": 1e-6}, DecodedFrames),
    ],
)
def test_memory_first_then_the_disk_then_the_videos(opened, wanted, kind):
    """As far as they fit, and as frame_cache wants it."""
    assert kind_of(opened(**wanted)[0]) is kind


def test_a_disk_that_does_not_do_is_told_and_the_run_goes_on(opened):
    """With the reason, and who decodes now."""
    said = opened(cache_gb=0.0, disk_gb=1e-6, num_workers=3)[-1]
    assert "decoded on demand by num_workers=3 processes" in said
    assert "storage.cache_gb=1e-06 allows less" in said


def test_a_disk_that_was_asked_for_and_does_not_do_is_refused(opened):
    with pytest.raises(CacheError, match="allows less"):
        opened(frame_cache="disk", disk_gb=1e-6)


def test_held_out_frames_go_to_the_disk_when_memory_is_taken(opened, dataset):
    """Those that are trained on come first."""
    gigabytes = dataset.decoded_bytes / 1e9
    training, seldom, _ = opened(cache_gb=1.5 * gigabytes, held_out=dataset)
    assert kind_of(training) is MemoryTarget
    assert kind_of(seldom) is DiskTarget


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_whatever_they_come_from(opened, dataset, tmp_path, num_workers):
    """Bit for bit, over the end of an epoch, by a thread and by processes, and while frames are still being decoded."""
    order, filling = SampleOrder(len(dataset), 4, 7), opened()[0]
    mapped = on_disk(dataset, StorageConfig(cache_dir=str(tmp_path / "cache")))
    assert isinstance(opened(frame_cache="disk")[0], MappedFrames)
    sources = [(in_memory(dataset), 0), (filling, 0), (mapped, num_workers), (DecodedFrames(dataset), num_workers)]
    makers = [(BatchMaker(dataset, frames, order, np.arange(3), with_task=True), by) for frames, by in sources]
    for memory, *others in zip(*(iterate(maker, 0, 6, by) for maker, by in makers), strict=True):
        for other in others:
            assert memory.keys() == other.keys()
            assert all(np.array_equal(memory[name], other[name]) for name in memory)


def test_what_is_needed_first_is_decoded_first():
    """The next sample of every row, counted from any step on."""
    order = SampleOrder(7, 3, 5)
    for step in (0, 1, 4):
        coming = np.concatenate([order.rows(step + k) for k in range(6)]).tolist()
        assert order.due(step).tolist() == [coming.index(row) for row in range(7)]


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_frames_on_the_disk_train_alike(tiny_act, dataset, tmp_path, capsys):
    """While they are decoded, and by processes when they are there from before."""
    cache, few = f"storage.cache_dir={tmp_path / 'cache'}", ["num_train_steps=6", "save_freq=6"]
    run(positronic.compose(tiny_act("memory", *few)))
    run(positronic.compose(tiny_act("disk", *few, cache, "cache_gb=0", "num_workers=2")))
    assert f"19 frames are being decoded in {tmp_path / 'cache'}" in capsys.readouterr().out
    on_disk(dataset, StorageConfig(cache_dir=str(tmp_path / "cache")))
    run(positronic.compose(tiny_act("again", *few, cache, "cache_gb=0", "num_workers=2")))
    assert f"19 frames are decoded in {tmp_path / 'cache'}" in capsys.readouterr().out
    assert losses(tmp_path / "disk") == losses(tmp_path / "again") == losses(tmp_path / "memory")


def test_ctrl_c_while_frames_are_decoded_leaves_no_half_entry(press, tiny_act, tmp_path):
    """It ends at once, with what to type."""
    where = "positronic.bake.frame_cache:_Writer.__setitem__"
    done = press(where, 1, [signal.SIGINT], *tiny_act("run", "cache_gb=0", f"storage.cache_dir={tmp_path / 'cache'}"))
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "resume=true" in done.stdout
    whole = {record.parent for record in (tmp_path / "cache").rglob("entry.json")}
    assert {path.parents[1] for path in (tmp_path / "cache").rglob("*.rgb")} == whole
