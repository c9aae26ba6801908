"""Where a run's frames come from changes its speed and nothing else."""

import io
import json
import signal

import numpy as np
import pytest
from rich.console import Console

import positronic
from positronic.bake.frame_source import CachedFrames, DecodedFrames, MappedFrames
from positronic.stages.train import run
from positronic.storage import StorageConfig
from positronic.storage.entries import CacheError, entries_root
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
        return *sides, said.getvalue()

    return open_with


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ({"cache_gb": 1.0}, CachedFrames),
        ({"cache_gb": 1.0, "frame_cache": "none"}, CachedFrames),
        ({"cache_gb": 0.0}, MappedFrames),
        ({"cache_gb": 1.0, "frame_cache": "disk"}, MappedFrames),
        ({"cache_gb": 0.0, "frame_cache": "none"}, DecodedFrames),
        ({"cache_gb": 0.0, "disk_gb": 1e-6}, DecodedFrames),
    ],
)
def test_memory_first_then_the_disk_then_the_videos(opened, wanted, kind):
    """As far as they fit, and as frame_cache wants it."""
    assert isinstance(opened(**wanted)[0], kind)


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
    assert isinstance(training, CachedFrames)
    assert isinstance(seldom, MappedFrames)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_whatever_they_come_from(opened, dataset, num_workers):
    """Bit for bit, over the end of an epoch, by a thread and by processes."""
    order, sources = SampleOrder(len(dataset), 4, 7), [{}, {"frame_cache": "disk"}, {"frame_cache": "none"}]
    sources[2]["cache_gb"] = 0.0
    makers = [BatchMaker(dataset, opened(**each)[0], order, np.arange(3), with_task=True) for each in sources]
    for memory, *others in zip(*(iterate(maker, 0, 6, num_workers) for maker in makers), strict=True):
        for other in others:
            assert memory.keys() == other.keys()
            assert all(np.array_equal(memory[name], other[name]) for name in memory)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_frames_on_the_disk_train_alike(tiny_act, tmp_path, capsys):
    """Also with processes; a later run finds them there."""
    cache, few = f"storage.cache_dir={tmp_path / 'cache'}", ["num_train_steps=6", "save_freq=6"]
    run(positronic.compose(tiny_act("memory", *few)))
    for name, workers in (("disk", 0), ("again", 2)):
        run(positronic.compose(tiny_act(name, *few, cache, "cache_gb=0", f"num_workers={workers}")))
        assert f"19 frames are decoded in {tmp_path / 'cache'}" in capsys.readouterr().out
        assert losses(tmp_path / name) == losses(tmp_path / "memory")
    assert len(list(entries_root(StorageConfig(cache_dir=str(tmp_path / "cache"))).glob("*/entry.json"))) == 1


def test_ctrl_c_while_frames_are_decoded_leaves_none(press, tiny_act, tmp_path):
    """It ends at once, with what to type."""
    where = "positronic.bake.frame_cache:_Writer.sync"
    done = press(where, 1, [signal.SIGINT], *tiny_act("run", "cache_gb=0", f"storage.cache_dir={tmp_path / 'cache'}"))
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "resume=true" in done.stdout
    assert not list((tmp_path / "cache").rglob("*.rgb"))
