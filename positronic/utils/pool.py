"""Processes that work through tasks, end when they are told to, and never outlive the process that started them.

With the standard executors, workers keep waiting when the parent is killed, and continue after Ctrl-C. Here a worker
dies with its parent, also in the middle of a task. Signals are for the parent alone; it asks the workers to stop, and
they leave their ``with`` blocks on the way out.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any, Self

from positronic.errors import PositronicError
from positronic.utils.processes import hear, never_ignored, obey_parent, signals_held
from positronic.utils.threads import available_cores

STOP_TIMEOUT_SEC = 10.0
STOPPED_EXIT_CODE = 143  # 128 + SIGTERM

Setup = Callable[..., AbstractContextManager[Callable[[Any], Any]]]


def worker_count(num_workers: int, num_tasks: int) -> int:
    """How many processes to start: ``num_workers``, or for 0 one per core that we may use; never more than tasks."""
    return max(1, min(num_workers or available_cores(), num_tasks))


class WorkerPool:
    """``count`` spawned processes, each inside ``setup(*args)``, a context manager that yields what does one task.

    ``setup``, ``args``, tasks and results must pickle. Use it in a ``with``; leaving by an exception stops the workers.
    """

    def __init__(self, count: int, setup: Setup, *args: Any) -> None:
        self._tasks: deque[Any] = deque()
        self._busy: dict[Connection, Any] = {}
        self._workers = {}
        try:
            with signals_held():
                for _ in range(count):
                    connection, process = _start(setup, args)
                    self._workers[connection] = process
        except BaseException:  # a signal that came meanwhile
            self.stop()
            raise
        self._idle = list(self._workers)

    def submit(self, task: Any) -> None:
        """Queue a task; results may already be coming."""
        self._tasks.append(task)

    def results(self) -> Iterator[Any]:
        """Results as they come, until nothing is queued or running.

        Raises what a task raised (PositronicError as it is, otherwise RuntimeError with the worker's traceback),
        PositronicError when a worker died, and KeyboardInterrupt when somebody else asked it to end: a scheduler's
        SIGTERM to all, which has not reached us yet.
        """
        while self._tasks or self._busy:
            while self._tasks and self._idle:
                self._assign(self._idle.pop(), self._tasks.popleft())
            for connection in wait(list(self._busy)):
                yield self._collect(connection)

    def close(self) -> None:
        """Let every worker end after its task, and wait for it."""
        for connection in self._workers:
            connection.close()
        for process in self._workers.values():
            process.join()

    def stop(self) -> None:
        """End every worker within its task, by an exception there; kill what does not end in time, and all of them when
        a second signal comes: a worker that still starts would find nothing of us."""
        processes = self._workers.values()
        try:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join(STOP_TIMEOUT_SEC)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self.close()

    def _assign(self, connection: Connection, task: Any) -> None:
        self._busy[connection] = task
        with contextlib.suppress(BrokenPipeError):  # it died idle: reading from it says so
            connection.send(task)

    def _collect(self, connection: Connection) -> Any:
        task = self._busy.pop(connection)
        try:
            result, error = connection.recv()
        except (EOFError, ConnectionResetError):
            process = self._workers[connection]
            process.join(STOP_TIMEOUT_SEC)
            if process.exitcode == STOPPED_EXIT_CODE:
                raise KeyboardInterrupt from None
            raise PositronicError(
                f"A worker process ended with exit code {process.exitcode} while it was busy with {task!r}."
                " If it was killed for memory, start fewer: num_workers=1, or driver.num_robots=1."
            ) from None
        if error is not None:
            raise error
        self._idle.append(connection)
        return result


def _start(setup: Setup, args: tuple[Any, ...]) -> tuple[Connection, multiprocessing.Process]:
    context = multiprocessing.get_context("spawn")  # OpenGL and threads do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, setup, args), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _work(connection: Connection, setup: Setup, args: tuple[Any, ...]) -> None:
    obey_parent()
    signal.signal(signal.SIGTERM, _leave)
    never_ignored(SystemExit, signal.SIGTERM)
    hear()
    try:
        with setup(*args) as work:
            _serve(connection, work)
    except Exception as error:
        known = isinstance(error, PositronicError)
        with contextlib.suppress(OSError):  # the parent may be gone
            connection.send((None, error if known else RuntimeError(f"A worker failed:\n{traceback.format_exc()}")))


def _leave(number: int, frame: FrameType | None) -> None:
    """Once: a scheduler's SIGTERM to all is followed by our own, which must not disturb the tidying up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(STOPPED_EXIT_CODE)


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send((work(task), None))
