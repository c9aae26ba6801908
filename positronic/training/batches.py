"""Which samples make up each step, and the arrays of a batch."""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from positronic.bake.frame_source import Frames
from positronic.bake.reader import BakedDataset
from positronic.errors import PositronicError
from positronic.training.noise import Part
from positronic.utils.memory import SHARED_MEMORY, free_shared_bytes
from positronic.utils.processes import STOPPING, die_with_parent, signals_held

PAD_SUFFIX = "_is_pad"
PREFETCH = 2  # batches made ahead
WORKER_DIED = "DataLoader worker"  # begins what torch 2 says of a worker that ended, killed or not
LEAVE_SEC = 5.0  # for a thread that may be reading from a disk that does not answer

Batch = dict[str, Any]
"""column -> float32 (B, D), actions (B, H, A), images uint8 (B, H, W, 3); ``<action>_is_pad`` bool (B, H); the task."""


@dataclass(frozen=True)
class SampleOrder:
    """The rows of every step: each epoch is a permutation of all ``count`` rows, and batches run on across its end.

    A pure function of seed and step, so that a resumed run needs nothing but the step.
    """

    count: int
    batch_size: int
    seed: int

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows (batch_size,) of 0-based ``step``."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(positions, self.count)
        rows = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            rows[inside] = _permutation(self.count, self.seed, int(epoch))[places[inside]]
        return rows

    def due(self, step: int) -> NDArray[np.int64]:
        """For every row (count,), how many samples after the first of 0-based ``step`` it is needed next."""
        epoch, place = divmod(step * self.batch_size, self.count)
        due = np.empty(self.count, np.int64)
        due[_permutation(self.count, self.seed, epoch + 1)] = np.arange(self.count) + self.count - place
        due[_permutation(self.count, self.seed, epoch)[place:]] = np.arange(self.count - place)
        return due


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


class BatchMaker:
    """Batches by step number, as numpy arrays. ``maker[step]`` is the same whoever asks, whenever."""

    def __init__(
        self,
        dataset: BakedDataset,
        frames: Frames,
        order: SampleOrder,
        action_offsets: NDArray[np.int64],
        with_task: bool,
        ranks: tuple[int, int] = (0, 1),
    ) -> None:
        """``action_offsets`` (H,): the steps of a chunk relative to the observation. ``with_task``: add the task.
        ``ranks``: number and count of the processes that share each batch; this one makes its own rows alone."""
        self._dataset = dataset
        self._frames = frames
        self._order = order
        self._action_offsets = np.asarray(action_offsets, np.int64)
        self._with_task = with_task
        self._ranks = ranks

    def __getitem__(self, step: int) -> Batch:
        rows = self._order.rows(step)
        part = self.share(rows)
        return self.of(rows if part is None else rows[part.first : part.end])

    def part(self, step: int) -> Part | None:
        """Which part of the batch of 0-based ``step`` is made here; None: all of it."""
        return None if self._ranks[1] == 1 else self.share(self._order.rows(step))

    def share(self, rows: NDArray[np.int64]) -> Part | None:
        """This process's part of a batch of ``rows`` (B,); None: all of it."""
        rank, count = self._ranks
        if count == 1:
            return None
        ends = np.cumsum([len(each) for each in np.array_split(rows, count)])
        first, end = int(ends[rank - 1]) if rank else 0, int(ends[rank])
        episodes = self._dataset.episode_of[rows]
        wanted = rows[:, None] + self._action_offsets
        inside = (wanted >= self._dataset.starts[episodes, None]) & (wanted < self._dataset.ends[episodes, None])
        return Part(first, end, len(rows), float(inside[first:end].sum() / inside.sum()))

    def first_of(self, count: int) -> Batch:
        """A batch of the dataset's first ``count`` rows; the last one again when there are not so many."""
        return self.of(np.minimum(np.arange(count), len(self._dataset) - 1))

    def of(self, rows: NDArray[np.int64]) -> Batch:
        """The batch of these rows (B,) of the dataset."""
        modality = self._dataset.recipe.modality
        batch: Batch = {}
        for column in modality.observation_columns:
            table = self._dataset.vectors.get(column.name)
            batch[column.name] = self._frames.get(column.name, rows) if table is None else table[rows]
        batch |= self._actions(rows)
        if self._with_task:
            batch[modality.task_key] = [self._dataset.tasks[i] for i in self._dataset.task_of[rows]]
        return batch

    def episodes(self, step: int) -> list[int]:
        """The episodes that 0-based ``step`` learns from, by their numbers in the dataset on disk."""
        places = np.unique(self._dataset.episode_of[self._order.rows(step)])
        return sorted(self._dataset.numbers[places].tolist())

    def _actions(self, rows: NDArray[np.int64]) -> Batch:
        """Chunks by index; beyond its episode's end a chunk repeats the last action and is marked as padding."""
        name = self._dataset.recipe.modality.action_column.name
        episodes = self._dataset.episode_of[rows]
        first, end = self._dataset.starts[episodes, None], self._dataset.ends[episodes, None]
        wanted = rows[:, None] + self._action_offsets
        inside = np.clip(wanted, first, end - 1)
        return {name: self._dataset.vectors[name][inside], name + PAD_SUFFIX: wanted != inside}


def iterate(maker: BatchMaker, start: int, stop: int, num_workers: int) -> Iterator[Batch]:
    """The batches of steps ``start`` to ``stop``, made ahead: by a thread, or by ``num_workers`` processes.

    Raises PositronicError when a process ends or cannot hand its batch over.
    """
    if num_workers:
        yield from _from_processes(maker, start, stop, num_workers)
    else:
        yield from _from_thread(maker, start, stop)


def _from_thread(maker: BatchMaker, start: int, stop: int) -> Iterator[Batch]:
    ready: queue.Queue[Batch | BaseException] = queue.Queue(PREFETCH)
    closed = threading.Event()

    def put(item: Batch | BaseException) -> None:
        while not closed.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for step in range(start, stop):
                if closed.is_set():
                    return
                put(maker[step])
        except BaseException as error:  # raised again where the batch is taken
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join(LEAVE_SEC)


def _from_processes(maker: BatchMaker, start: int, stop: int, num_workers: int) -> Iterator[Batch]:
    """A signal to the whole process group is for this process alone: it takes the batches that it still needs."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        _Refusing(maker),  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(start, stop),
        num_workers=num_workers,
        collate_fn=_as_tensors,
        multiprocessing_context=_process_context(),
        worker_init_fn=_begin_as_worker,
        generator=torch.Generator(),  # its own: the default one would draw from the run's random state
        prefetch_factor=PREFETCH,
    )
    with signals_held():
        batches = iter(loader)
    for _ in range(start, stop):
        batch = _next(batches)
        if isinstance(batch, PositronicError):
            raise batch
        yield batch


def _next(batches: Iterator[Batch | PositronicError]) -> Batch | PositronicError:
    """Torch looks every five seconds whether the processes live; a signal's exception passes through."""
    try:
        return next(batches)
    except (RuntimeError, EOFError, ConnectionError) as error:  # the latter two: while it handed over a batch
        if isinstance(error, RuntimeError) and WORKER_DIED not in str(error):
            raise
        raise PositronicError(
            "A process that decodes frames ended unexpectedly. If it was killed for memory, start fewer: num_workers=1."
            " Training goes on from the last checkpoint with resume=true."
        ) from error


@dataclass(frozen=True)
class _Refusing:
    """What a user can mend comes back as it is; torch would put a traceback into its text."""

    maker: BatchMaker

    def __getitem__(self, step: int) -> Batch | PositronicError:
        try:
            return self.maker[step]
        except PositronicError as error:
            return error


def _process_context() -> BaseContext:
    """Processes that are not forked from this one: a fork of a process that runs torch's threads can hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = _ForkServer()
    context.set_forkserver_preload([__name__])  # imports once for all workers
    return context


class _Worker(ForkServerProcess):
    """It does not hear SIGTERM, by which torch ends a worker that hangs."""

    def terminate(self) -> None:
        self.kill()


class _ForkServer(ForkServerContext):
    Process = _Worker


def _begin_as_worker(number: int) -> None:
    die_with_parent()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[method-assign]
    sys.excepthook = _say
    for each in STOPPING:  # the fork server may have been started by somebody else, without ``signals_held``
        signal.signal(each, signal.SIG_IGN)


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Nobody is told that a run which is being stopped takes no batch any more, not even the half of one."""
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _end(error: Exception, item: object) -> None:
    """A batch that cannot be handed over would be dropped, and waited for; that a process ended is noticed."""
    os._exit(1)


def _as_tensors(batch: Batch | PositronicError) -> Batch | PositronicError:
    """Tensors travel between processes in shared memory, arrays are copied through a pipe.

    They are moved there now: where the queue would do it, an error is printed and the batch never comes.
    """
    if isinstance(batch, PositronicError):
        return batch
    try:
        return {name: _shared(value) if isinstance(value, np.ndarray) else value for name, value in batch.items()}
    except RuntimeError:  # of torch, whose text names a wrong cause
        free = free_shared_bytes()
        return PositronicError(
            f"A process that decodes frames cannot hand over its batch in shared memory: {SHARED_MEMORY} has "
            f"{'no room' if free is None else f'{free / 1e6:.3g} MB'} left. Type num_workers=0, or give the "
            "container more: `docker run --shm-size=...`. Training goes on from the last checkpoint with resume=true."
        )


def _shared(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(array).share_memory_()
