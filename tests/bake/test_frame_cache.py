"""Decoded frames on the disk: the same pictures, for all processes, and never half of them."""

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic.bake import frame_source
from positronic.bake.config import VideoConfig
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.frame_cache import on_disk
from positronic.bake.frame_source import DecodedFrames, in_memory
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.raw.dataset import open_dataset
from positronic.storage import StorageConfig, entries
from positronic.storage.entries import CacheError

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "tests" / "data" / "raw_v1"
GB = 1e9


def bake_to(folder, **video):
    """Three episodes of 60 frames."""
    fixed = ["stage=convert", "vendor=lerobot", "codec=ee", "dataset.path=unused", "modality.image_size=[32,32]"]
    config = positronic.compose(fixed)
    options = BakeOptions(vendor="lerobot", num_workers=1, video=VideoConfig(**video))
    versions = {"commit": None, "dirty": None, "versions": {}}
    bake(open_dataset(PUBLISHED), build(config.codec, config.modality), folder, options, versions)
    return folder


@pytest.fixture(scope="module")
def baked_path(tmp_path_factory):
    """Read it, do not write into it."""
    return bake_to(tmp_path_factory.mktemp("baked") / "baked")


@pytest.fixture
def dataset(baked_path):
    return open_baked(baked_path)


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """``storage(cache_gb)``."""
    monkeypatch.setattr(entries, "_counted", {})
    return lambda cache_gb=1.0: StorageConfig(cache_dir=str(tmp_path / "cache"), cache_gb=cache_gb)


def kept(config):
    """Entries that are whole."""
    return sorted(record.parent.name for record in entries.entries_root(config).glob("*/entry.json"))


def same(one, other, dataset, rows):
    return all(np.array_equal(one.get(name, rows), other.get(name, rows)) for name in dataset.image_shapes)


def test_every_source_gives_the_same_pictures(dataset, storage):
    """Bit for bit, in any order, and in another process too."""
    rows = np.random.default_rng(0).permutation(len(dataset))
    memory, mapped = in_memory(dataset), on_disk(dataset, storage())
    assert same(mapped, memory, dataset, rows)
    assert same(mapped, DecodedFrames(dataset), dataset, rows[:20])
    assert same(pickle.loads(pickle.dumps(mapped)), memory, dataset, rows)


def test_long_episodes_are_decoded_in_pieces(dataset, monkeypatch):
    """Which gives the same pictures."""
    whole, seen = in_memory(dataset), []
    monkeypatch.setattr(frame_source, "TASK_FRAMES", 7)
    pieces = in_memory(dataset, lambda *progress: seen.append(progress))
    assert len(seen) == 2 * 3 * 5  # cameras, episodes, pieces of 14 of 60 frames
    assert same(pieces, whole, dataset, np.arange(len(dataset)))


def test_what_was_decoded_once_is_not_decoded_again(dataset, storage):
    """By a later run of the same dataset, or by one beside it."""
    seen = []
    first = on_disk(dataset, storage(), lambda *progress: seen.append(progress))
    assert seen[-1] == (2 * len(dataset), 2 * len(dataset))
    again = on_disk(dataset, storage(), lambda *progress: pytest.fail("decoded again"))
    assert same(first, again, dataset, np.arange(len(dataset)))


def test_other_episodes_are_another_entry(dataset, storage):
    """Their rows are their own."""
    chosen = dataset.only([2, 0], dataset.stats)
    on_disk(dataset, storage())
    assert same(on_disk(chosen, storage()), in_memory(chosen), chosen, np.arange(len(chosen)))
    assert len(kept(storage())) == 2


def test_a_dataset_with_other_videos_is_another_entry(storage, tmp_path):
    """Also in the same folder and of the same recording."""
    on_disk(open_baked(bake_to(tmp_path / "baked")), storage())
    shutil.rmtree(tmp_path / "baked")
    again = open_baked(bake_to(tmp_path / "baked", crf=45))
    assert same(on_disk(again, storage()), in_memory(again), again, np.arange(len(again)))
    assert len(kept(storage())) == 2


def test_above_the_limit_frames_that_nobody_uses_go(dataset, storage):
    """The longest unused first; those in use stay."""
    sides = [dataset.only([number], dataset.stats) for number in range(3)]
    config = storage(2.5 * sides[0].decoded_bytes / GB)
    in_use = on_disk(sides[0], config)
    (oldest,) = kept(config)
    on_disk(sides[1], config)
    on_disk(sides[2], config)
    assert len(kept(config)) == 2
    assert oldest in kept(config)
    assert same(in_use, in_memory(sides[0]), sides[0], np.arange(60))


def test_frames_above_the_limit_are_refused_before_they_are_decoded(dataset, storage):
    """With the size that they need."""
    with pytest.raises(CacheError, match=r"take 0.00111 GB on the disk, and storage.cache_gb=0.001 allows less"):
        on_disk(dataset, storage(0.001), lambda *progress: pytest.fail("decoded"))


def test_an_interrupted_filling_leaves_nothing_on_the_disk(dataset, storage):
    """Half of the frames are of no use, and large."""

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_disk(dataset, storage(), interrupt)
    assert not list(entries.entries_root(storage()).rglob("*.rgb"))
    assert same(on_disk(dataset, storage()), in_memory(dataset), dataset, np.arange(len(dataset)))


def test_a_folder_that_cannot_be_made_is_a_sentence(dataset, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"cannot be made .*storage.cache_dir=<folder>"):
        on_disk(dataset, StorageConfig(cache_dir=str(tmp_path / "file" / "cache")))


# Fills the cache and says what it decoded. With "killed", the process kills itself after 100 of 360 frames.
FILL = """
import hashlib, os, signal, sys
import numpy as np
from pathlib import Path
from positronic.bake import frame_cache
from positronic.bake.reader import open_baked
from positronic.errors import PositronicError
from positronic.storage import StorageConfig

write, written = frame_cache._Writer.__setitem__, []
def counting(writer, row, frame):
    write(writer, row, frame)
    written.append(row)
    if "killed" in sys.argv and len(written) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
frame_cache._Writer.__setitem__ = counting
dataset = open_baked(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    frames = frame_cache.on_disk(dataset, StorageConfig(cache_dir=sys.argv[2]))
except PositronicError as error:
    sys.exit(f"refused: {error}")
rows = np.arange(len(dataset))
pictures = b"".join(frames.get(name, rows).tobytes() for name in dataset.image_shapes)
print(len(written), hashlib.sha256(pictures).hexdigest())
"""


def fill(baked_path, config, *more, **how):
    """A process that waits for a line before it begins."""
    command = [sys.executable, "-c", FILL, str(baked_path), config.cache_dir, *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes, **how)


def test_what_a_killed_process_left_is_never_taken_for_whole(baked_path, dataset, storage):
    """The next one decodes all of it."""
    killed = fill(baked_path, storage(), "killed")
    killed.communicate("\n", timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert list(entries.entries_root(storage()).rglob("*.rgb"))
    assert kept(storage()) == []
    seen = []
    mapped = on_disk(dataset, storage(), lambda *progress: seen.append(progress))
    assert seen[-1][0] == 2 * len(dataset)
    assert same(mapped, in_memory(dataset), dataset, np.arange(len(dataset)))


def test_two_processes_at_once_decode_once(baked_path, storage):
    """One waits for the other, and both see the same pictures."""
    both = [fill(baked_path, storage()) for _ in range(2)]
    assert all(each.stdout.readline() == "ready\n" for each in both)
    for each in both:
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0].split() for each in both]
    assert sorted(int(decoded) for decoded, _ in said) == [0, 360]
    assert said[0][1] == said[1][1]


def test_a_disk_that_fills_up_is_a_sentence_and_is_left_as_it_was(baked_path, storage):
    """By a real limit of the system."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = fill(baked_path, storage(), preexec_fn=limit)
    _, said = done.communicate("\n", timeout=60)
    assert done.returncode == 1
    assert "refused: The disk of" in said
    assert "must be decoded there" in said
    assert not list(entries.entries_root(storage()).rglob("*.rgb"))
