"""Episodes over processes. Results come in order, for any number of processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import NamedTuple

from positronic.bake.episode import BakedEpisode, Duplicate, EpisodeBaker, Rejected, bake_episode, check_episode
from positronic.raw.episode import Episode
from positronic.utils.pool import WorkerPool, worker_count
from positronic.utils.processes import signals_held

WINDOW = 4  # episodes per worker that are being baked or wait


class Job(NamedTuple):
    """``number``: position in the dataset. ``check_only``: find what is wrong with the episode, bake nothing."""

    number: int
    episode: Episode
    check_only: bool


Result = BakedEpisode | Duplicate | Rejected | None
"""None: nothing was found wrong, and nothing was to be baked."""


class FrameCounter:
    """Timesteps done so far, over all processes."""

    def __init__(self) -> None:
        with signals_held():  # for the process that removes semaphores
            self._count: Synchronized = multiprocessing.get_context("spawn").Value("q", 0)

    def add(self, frames: int) -> None:
        """Count ``frames`` more."""
        with self._count.get_lock():
            self._count.value += frames

    @property
    def value(self) -> int:
        """The count."""
        return self._count.value


def bake_in_order(
    baker: EpisodeBaker,
    pieces: Path,
    make_job: Callable[[int], Job],
    total: int,
    num_workers: int,
    counter: FrameCounter,
) -> Generator[Result]:
    """Results of ``make_job(0)`` ... ``make_job(total - 1)`` in this order. What is encoded goes to the folder
    ``pieces``.

    A job is made when there is room for it: at most a few per worker are held. A single worker is this process itself.
    Raises what ``WorkerPool.results`` raises. Closing the iterator ends the workers.
    """
    count = worker_count(num_workers, total)
    if count == 1:
        with _working(baker, pieces, counter) as work:
            yield from (work(make_job(number))[1] for number in range(total))
        return
    with WorkerPool(count, _working, baker, pieces, counter) as pool:
        yield from _in_order(pool, make_job, total, WINDOW * count)


def _in_order(pool: WorkerPool, make_job: Callable[[int], Job], total: int, window: int) -> Iterator[Result]:
    ready: dict[int, Result] = {}  # done, but not their turn: an earlier one takes longer
    submitted = yielded = 0
    for _ in range(min(window, total)):
        pool.submit(make_job(submitted))
        submitted += 1
    for number, result in pool.results():
        ready[number] = result
        while yielded in ready:
            yield ready.pop(yielded)
            yielded += 1
            if submitted < total:
                pool.submit(make_job(submitted))
                submitted += 1


@contextmanager
def _working(baker: EpisodeBaker, pieces: Path, counter: FrameCounter) -> Iterator[Callable[[Job], tuple[int, Result]]]:
    def work(job: Job) -> tuple[int, Result]:
        if job.check_only:
            return job.number, check_episode(baker, job.episode)
        return job.number, bake_episode(baker, job.episode, pieces, counter.add)

    yield work
