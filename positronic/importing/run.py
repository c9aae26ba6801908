"""Episodes of a source over processes, each written completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from positronic.errors import PositronicError
from positronic.importing.recording import Plan, Recorded, Refused, record
from positronic.importing.source import SourceEpisode
from positronic.raw.writer import DatasetWriter
from positronic.utils.pool import WorkerPool, worker_count

AHEAD = 2  # tasks per worker that wait in the pool, so that thousands are not held


class Task(NamedTuple):
    """An episode and the id that it gets."""

    episode: SourceEpisode
    episode_id: int

    def __repr__(self) -> str:
        return f"'{self.episode.name}'"


def record_all(
    episodes: Sequence[SourceEpisode], places: Mapping[str, int], root: Path, plan: Plan, num_workers: int
) -> Iterator[Recorded | Refused]:
    """Import the episodes that ``places``, name -> id, asks for; results come as episodes are done.

    Closing the iterator ends the processes and removes unfinished episodes.
    """
    tasks = (Task(episode, places[episode.name]) for episode in episodes if episode.name in places)
    count = worker_count(num_workers, len(places))
    if count == 1:
        with recorder(root, plan) as work:
            yield from map(work, tasks)
        return
    with WorkerPool(count, recorder, root, plan) as pool:
        for task, _ in zip(tasks, range(AHEAD * count), strict=False):
            pool.submit(task)
        for result in pool.results():
            yield result
            if (task := next(tasks, None)) is not None:
                pool.submit(task)


@contextmanager
def recorder(root: Path, plan: Plan) -> Iterator[Callable[[Task], Recorded | Refused]]:
    """What a worker process does."""
    writer = DatasetWriter(root)

    def work(task: Task) -> Recorded | Refused:
        try:
            return record(writer, task.episode, task.episode_id, plan)
        except PositronicError as error:
            name, reason = task.episode.name, str(error)
            return Refused(name, reason if name in reason else f"{name}: {reason}")

    yield work
