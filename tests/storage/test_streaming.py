"""A dataset in a bucket is trained on while its videos arrive, and nothing else changes by that."""

import itertools
import json
import threading
from contextlib import closing

import numpy as np
import pytest
import safetensors.torch

import positronic
from positronic.bake import files
from positronic.bake.filling import FillingFrames, MemoryTarget, start_arriving
from positronic.bake.frame_cache import DiskTarget, begin_on_disk
from positronic.bake.frame_source import DecodedFrames, MappedFrames, in_memory
from positronic.bake.reader import open_arriving, open_baked
from positronic.bake.whole import is_video
from positronic.errors import PositronicError
from positronic.stages import convert, train
from positronic.storage import streaming, transfer
from positronic.storage.folder import streamed_input
from positronic.storage.streaming import Arriving, StreamError
from positronic.training import loop
from positronic.training.batches import SampleOrder
from positronic.training.checkpoints import find_checkpoint
from positronic.vendors.upstream import wait_for_videos
from tests.storage.test_stages import BAKE, PUBLISHED, TRAIN

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH = 20  # frames of each of three episodes
FIRST, LAST = "file-000.mp4", "file-002.mp4"


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    """A dataset with a file for each episode and camera."""
    root = tmp_path_factory.mktemp("streamed") / "baked"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "MAX_VIDEO_SEC", 0.1)
        typed = ["stage=convert", f"dataset.path={PUBLISHED}", f"output_dir={root}", *BAKE, "num_workers=1"]
        convert.run(positronic.compose(typed))
    assert len(list(root.rglob("*.mp4"))) == 6
    return root


@pytest.fixture
def small_pieces(monkeypatch):
    """A video comes in several pieces."""
    for module in (transfer, streaming):
        monkeypatch.setattr(module, "FETCHED_BYTES", 1000)


@pytest.fixture
def arriving(bucket, proxy, baked):
    """``arriving()``: the dataset on its way from the bucket. Nothing of the videos is fetched yet."""
    bucket.put_folder(baked, "set")

    def opened(**values):
        return streamed_input(bucket.uri("set"), bucket.config(proxy.url, **values), is_video)

    return opened


def videos(proxy):
    return [name for name in proxy.gets() if name.endswith(".mp4")]


def fill(dataset, target):
    """All frames, when they are there."""
    due = np.arange(len(dataset))
    start_arriving(dataset, due)
    there = threading.Event()
    frames = FillingFrames(dataset, target, due, lambda seconds: there.set())
    assert there.wait(60)
    return frames


def same(one, other, dataset):
    rows = np.arange(len(dataset))
    return all(np.array_equal(one.get(name, rows), other.get(name, rows)) for name in dataset.image_shapes)


def test_small_files_come_first_and_a_frame_brings_what_it_needs(arriving, proxy, baked):
    """Of the other videos nothing is asked for."""
    with arriving() as source:
        assert isinstance(source, Arriving)
        assert videos(proxy) == []
        dataset, local = open_arriving(source), open_baked(baked)
        row = np.array([2 * LENGTH + 3])
        for name in dataset.image_shapes:
            assert np.array_equal(DecodedFrames(dataset).get(name, row), DecodedFrames(local).get(name, row))
        assert set(videos(proxy)) == {LAST}


def test_a_read_fetches_its_own_pieces_alone(arriving, proxy, small_pieces):
    """And does so once."""
    with arriving() as source:
        path = next(path for path in sorted(source._files))
        with source.open(path) as file:
            for _ in range(2):
                file.seek(2500)
                assert len(file.read(600)) == 600
        ranges = [each.headers["Range"] for each in proxy.requests if path.name in each.path]
        assert sorted(ranges) == ["bytes=2000-2999", "bytes=3000-3999"]


@pytest.mark.parametrize("memory", [True, False])
def test_what_has_arrived_is_the_dataset_and_is_kept(arriving, proxy, bucket, baked, small_pieces, memory):
    """Every frame, from pieces; the next run finds the files, and the frames on the disk."""
    local = open_baked(baked)
    with arriving() as source:
        dataset = open_arriving(source)
        target = MemoryTarget(dataset) if memory else begin_on_disk(dataset, bucket.config())
        with closing(fill(dataset, target)) as frames:
            assert frames.filled is None
            assert same(frames, in_memory(local), local)
    del proxy.requests[:]
    with arriving() as root:
        assert open_baked(root, every_byte=True).manifest == local.manifest
        assert isinstance(begin_on_disk(open_baked(root), bucket.config()), DiskTarget if memory else MappedFrames)
    assert proxy.gets() == []


def test_a_training_in_another_process_waits_for_all_of_it(arriving, baked):
    """The vendor's own code reads files."""
    with arriving() as source:
        dataset = open_arriving(source)
        wait_for_videos(dataset)
        for path in baked.rglob("*.mp4"):
            assert (dataset.root / path.relative_to(baked)).read_bytes() == path.read_bytes()


def test_what_was_fetched_when_it_ended_is_not_fetched_again(arriving, proxy, baked, small_pieces):
    """The rest is, and all of it is compared."""
    with arriving() as source:
        dataset = open_arriving(source)
        DecodedFrames(dataset).get(next(iter(dataset.image_shapes)), np.array([0]))
    first = {each.headers["Range"] for each in proxy.requests if FIRST in each.path}
    assert first
    del proxy.requests[:]
    with arriving() as source:
        dataset, local = open_arriving(source), open_baked(baked)
        with closing(fill(dataset, MemoryTarget(dataset))) as frames:
            assert same(frames, in_memory(local), local)
    pieces = [
        (each.path, each.headers["Range"]) for each in proxy.requests if ".mp4" in each.path and each.method == "GET"
    ]
    assert len(pieces) == len(set(pieces))
    total = sum(-(-path.stat().st_size // 1000) for path in baked.rglob("*.mp4"))
    assert len(pieces) == total - len(first)


def test_a_video_with_other_bytes_is_refused_when_it_is_there(arriving, bucket, baked):
    """Even if it can be decoded, and the bucket knows no checksum."""
    path = sorted(baked.rglob(LAST))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    bucket.put_key(f"set/{path.relative_to(baked)}", bytes(content))
    with arriving() as source:
        dataset = open_arriving(source)
        start_arriving(dataset, np.arange(len(dataset)))
        with pytest.raises(StreamError, match=r"file-002.mp4 is damaged .* may have been trained on"):
            source.wait()
    with arriving() as source:  # nothing of it was taken for right
        assert isinstance(source, Arriving)


def test_a_video_that_is_not_in_the_bucket_is_named_before_training(arriving, bucket, baked):
    """Not when its turn comes."""
    path = sorted(baked.rglob(LAST))[0]
    bucket.s3.delete_object(Bucket=bucket.name, Key=f"set/{path.relative_to(baked)}")
    with arriving() as source, pytest.raises(PositronicError, match=r"file-002.mp4 has None bytes in the bucket"):
        open_arriving(source)


# The stage


@pytest.fixture
def compose(bucket, proxy, tmp_path):
    """``compose(name, input_path, ...)``: what trains four steps of one sample; the first is of the first episode."""
    seed = next(seed for seed in itertools.count() if SampleOrder(3 * LENGTH, 1, seed).rows(0)[0] < LENGTH)
    fixed = [*TRAIN, "batch_size=1", "num_train_steps=4", "log_freq=1", f"seed={seed}", f"output_dir={tmp_path}"]
    fixed += [f"storage.endpoint_url={proxy.url}", f"storage.cache_dir={bucket.cache}", "storage.retries=1"]

    def make(name, input_path, *more):
        last = {each.partition("=")[0]: each for each in (*fixed, f"exp_name={name}", *more)}
        return ["stage=train", f"input_path={input_path}", *last.values()]

    return make


def learned(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    weights = safetensors.torch.load_file(find_checkpoint(folder).pretrained_model / "model.safetensors")
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows], {k: v.tolist() for k, v in weights.items()}


@pytest.fixture
def stepped(monkeypatch):
    """Set when a step is done and saved."""
    done, original = threading.Event(), loop.save_checkpoint

    def save(*arguments):
        original(*arguments)
        done.set()

    monkeypatch.setattr(loop, "save_checkpoint", save)
    return done


@pytest.mark.parametrize("where", ["cache_gb=8", "cache_gb=0"])
def test_steps_are_taken_before_all_videos_are_there(bucket, proxy, baked, compose, tmp_path, stepped, where):
    """The bucket keeps the last episode back until the first step is done; what is learned is what a local copy
    teaches, bit for bit."""
    bucket.put_folder(baked, "set")
    too_early = []
    proxy.inject("call", path=LAST, times=99, hook=lambda: stepped.wait(60) or too_early.append(1))
    train.run(positronic.compose(compose("streamed", bucket.uri("set"), where)))
    assert stepped.is_set()
    assert not too_early
    train.run(positronic.compose(compose("local", baked)))
    assert learned(tmp_path / "streamed") == learned(tmp_path / "local")


def test_a_bucket_that_fails_midway_is_a_sentence_and_the_run_goes_on_later(
    bucket, proxy, baked, compose, tmp_path, stepped
):
    """With the last checkpoint kept. Resumed, the run differs in nothing from one that was not disturbed."""
    bucket.put_folder(baked, "set")
    typed = compose("streamed", bucket.uri("set"), "num_train_steps=12")

    def remove():
        assert stepped.wait(60)
        for path in baked.rglob(LAST):
            bucket.s3.delete_object(Bucket=bucket.name, Key=f"set/{path.relative_to(baked)}")

    proxy.inject("call", path=LAST, times=99, hook=remove)
    with pytest.raises(PositronicError, match=r"(?s)There is no s3://.*file-002.mp4.*stopped. The last checkpoint is"):
        train.run(positronic.compose(typed))
    proxy.faults.clear()
    bucket.put_folder(baked, "set")
    train.run(positronic.compose([*typed, "resume=true"]))
    train.run(positronic.compose(compose("local", baked, "num_train_steps=12")))
    assert learned(tmp_path / "streamed") == learned(tmp_path / "local")


def test_a_killed_run_leaves_a_cache_that_the_next_uses(bucket, baked, compose, kill, tmp_path):
    """Resumed, it learns what a run from a local copy does."""
    bucket.put_folder(baked, "set")
    typed = compose("streamed", bucket.uri("set"), "cache_gb=0")
    kill("positronic.training.loop:Learner.step", 3, *typed)
    train.run(positronic.compose([*typed, "resume=true"]))
    train.run(positronic.compose(compose("local", baked)))
    assert learned(tmp_path / "streamed") == learned(tmp_path / "local")
