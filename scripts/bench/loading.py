"""One loader that loads batches of a baked dataset until its time is up. A process of its own, started by
``bench_loader.py``: FFmpeg's libraries have to be known before a process begins, and none inherits another's caches.

    python scripts/bench/loading.py <loader> '<JSON of Job>'

The last line is JSON of ``Loaded``. The pictures and actions of the first batch are in ``job.first``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 3  # batches; the first ones wait for processes to start


@dataclass(frozen=True)
class Job:
    """``root``: of the dataset. ``cache``: folder of decoded frames. ``chunk``: steps of an action chunk. ``workers``:
    processes, 0 is the loader's own way without. ``first``: where the first batch is written. ``uri``, ``endpoint``: of
    the dataset in a bucket."""

    root: str
    cache: str
    batch_size: int
    chunk: int
    seconds: float
    workers: int
    first: str
    seed: int = 0
    uri: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class Loaded:
    """``ready_sec``: from opening to the first batch. ``samples`` in ``seconds`` after that."""

    ready_sec: float
    samples: int
    seconds: float


Batch = Mapping[str, Any]


def main() -> None:
    logging.disable(logging.WARNING)
    job = Job(**json.loads(sys.argv[2]))
    began = time.perf_counter()
    with closing(LOADERS[sys.argv[1]](job)) as batches:
        first = next(batches)
        ready = time.perf_counter() - began
        np.savez(job.first, **{name: np.asarray(value) for name, value in first.items()})
        loaded = load(batches, job, ready)
    print(json.dumps(asdict(loaded)), flush=True)
    os._exit(0)  # processes of torch's that still decode ahead are not waited for


def load(batches: Iterator[Batch], job: Job, ready: float) -> Loaded:
    """Batches until the time is up, or there are no more."""
    for _ in range(WARM_UP):
        next(batches)
    began, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
        if time.perf_counter() - began > job.seconds:
            break
    return Loaded(ready, count * job.batch_size, time.perf_counter() - began)


# Ours


def memory(job: Job) -> Iterator[Batch]:
    """All frames in memory."""
    from positronic.bake.frame_source import in_memory

    dataset = opened(job)
    return ours(job, dataset, in_memory(dataset))


def mapped(job: Job) -> Iterator[Batch]:
    """Frames on the disk, decoded there if they are not yet; the system has room for them in memory."""
    dataset = opened(job)
    return ours(job, dataset, on_disk(dataset, job))


def mapped_cold(job: Job) -> Iterator[Batch]:
    """The same when the system holds none of them in memory: each frame of the first epoch comes from the disk."""
    dataset = opened(job)
    frames = on_disk(dataset, job)
    for path in Path(job.cache).rglob("*.rgb"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return ours(job, dataset, frames, once=True)


def decoded(job: Job) -> Iterator[Batch]:
    """Frames decoded as they are needed."""
    from positronic.bake.frame_source import DecodedFrames

    dataset = opened(job)
    return ours(job, dataset, DecodedFrames(dataset))


def s3_fetched(job: Job) -> Iterator[Batch]:
    """From a bucket: everything is fetched, then decoded into memory, then there is a batch."""
    from positronic.bake.frame_source import in_memory
    from positronic.bake.reader import open_baked
    from positronic.storage.folder import local_input

    with local_input(job.uri, empty_cache(job)) as root:
        dataset = open_baked(root, every_byte=True)
        yield from ours(job, dataset, in_memory(dataset))


def s3_streamed(job: Job) -> Iterator[Batch]:
    """From a bucket, as the training loop does it: batches while everything is fetched and decoded."""
    from positronic.bake.filling import FillingFrames, MemoryTarget, start_arriving
    from positronic.bake.reader import open_arriving
    from positronic.bake.whole import is_video
    from positronic.storage.folder import streamed_input
    from positronic.training.batches import SampleOrder

    with streamed_input(job.uri, empty_cache(job), is_video) as source:
        dataset = open_arriving(source)
        due = SampleOrder(len(dataset), job.batch_size, job.seed).due(0)
        start_arriving(dataset, due)
        frames = FillingFrames(dataset, MemoryTarget(dataset), due, lambda seconds: None)
        with closing(frames):
            yield from ours(job, dataset, frames)


def empty_cache(job: Job) -> Any:
    """How to reach the bucket; nothing of it is here."""
    from positronic.storage import StorageConfig

    Path(job.cache).mkdir(parents=True, exist_ok=True)
    return StorageConfig(endpoint_url=job.endpoint, cache_dir=tempfile.mkdtemp(dir=job.cache))


def opened(job: Job) -> Any:
    """The dataset."""
    from positronic.bake.reader import open_baked

    return open_baked(Path(job.root))


def on_disk(dataset: Any, job: Job) -> Any:
    """Its frames in the cache."""
    from positronic.bake import frame_cache
    from positronic.storage import StorageConfig

    return frame_cache.on_disk(dataset, StorageConfig(cache_dir=job.cache))


def ours(job: Job, dataset: Any, frames: Any, once: bool = False) -> Iterator[Batch]:
    """Batches as the training loop takes them. ``once``: no frame twice."""
    from positronic.training.batches import BatchMaker, SampleOrder, iterate

    order = SampleOrder(len(dataset), job.batch_size, job.seed)
    maker = BatchMaker(dataset, frames, order, np.arange(job.chunk), with_task=False)
    return iterate(maker, 0, len(dataset) // job.batch_size if once else 10**9, job.workers)


# LeRobot's


def torchcodec(job: Job) -> Iterator[Batch]:
    """LeRobot's dataset with its default decoder."""
    return lerobot(job, "torchcodec")


def pyav(job: Job) -> Iterator[Batch]:
    """LeRobot's dataset with the decoder that it takes where the other is missing."""
    return lerobot(job, "pyav")


def lerobot(job: Job, decoder: str) -> Iterator[Batch]:
    """The same samples through torch's loader, as ``lerobot-train`` sets it up."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = opened(job)
    chunks = {"action": [step / dataset.fps for step in range(job.chunk)]}
    read = LeRobotDataset(
        "local/bench", root=job.root, video_backend=decoder, delta_timestamps=chunks, return_uint8=True
    )
    ahead = {"prefetch_factor": 4, "persistent_workers": True, "multiprocessing_context": "spawn"}
    loader = torch.utils.data.DataLoader(
        read, batch_sampler=Rows(len(dataset), job), num_workers=job.workers, **(ahead if job.workers else {})
    )
    names = [*dataset.image_shapes, "action", "action_is_pad"]
    for batch in loader:
        yield {name: batch[name] for name in names}


def lance(job: Job) -> Iterator[Batch]:
    """The dataset that lerobot-lancedb makes of LeRobot's, through its own reader."""
    import torch
    from lerobot_lancedb import LanceDBDataset, lance_mp_context
    from lerobot_lancedb.convert import convert

    dataset, made = opened(job), Path(job.cache).with_name("lance")
    if not made.exists():
        with redirect_stdout(sys.stderr):
            convert(made, root=Path(job.root))
    chunks = {"action": [step / dataset.fps for step in range(job.chunk)]}
    read = LanceDBDataset(root=made, delta_timestamps=chunks, return_uint8=True)
    ahead = {"prefetch_factor": 4, "persistent_workers": True, "multiprocessing_context": lance_mp_context()}
    loader = torch.utils.data.DataLoader(
        read, batch_sampler=Rows(len(dataset), job), num_workers=job.workers, **(ahead if job.workers else {})
    )
    names = [*dataset.image_shapes, "action", "action_is_pad"]
    for batch in loader:
        yield {name: batch[name] for name in names}


@dataclass(frozen=True)
class Rows:
    """The samples of each step, as ours."""

    count: int
    job: Job

    def __iter__(self) -> Iterator[list[int]]:
        from positronic.training.batches import SampleOrder

        order = SampleOrder(self.count, self.job.batch_size, self.job.seed)
        return (order.rows(step).tolist() for step in range(10**9))


LOADERS = {
    each.__name__: each
    for each in (memory, mapped, mapped_cold, decoded, s3_fetched, s3_streamed, torchcodec, pyav, lance)
}

if __name__ == "__main__":
    main()
