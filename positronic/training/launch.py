"""The processes of one run on this machine. The run's own process is the first of them and starts the others.

Nothing is left to another launcher: ``python run.py stage=train num_processes=2`` is the whole command, and signals,
messages and exit code are those of a run of one process. The others die with it. If one of them fails, the first one
notices it at the next gradient, ends the rest and says which one it was, and why.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from positronic.errors import PositronicError
from positronic.training.ranks import AGREEING_SEC, ALONE, GRADIENTS_SEC, Alone, Group, of_rank
from positronic.training.settings import TrainSettings
from positronic.utils.processes import STOPPING, die_with_parent, hear, signals_held, without_main

READY, REFUSED, LOST, FAILED = "ready", "refused", "lost", "failed"
LOST_SAID = re.compile(r"gloo|NCCL|nccl|Connection (?:closed|reset)|[Tt]imed out")  # by torch, of another process
CAUSE_SEC = 5.0  # in which a process that has failed has said so
ENDING_SEC = 30.0  # for a process that has nothing left to do
NOTICED_SEC = 120.0  # in which the first process notices that another one has ended
UNNOTICED_CODE = 1
IMPORTED = "positronic.training.loop"  # once, for all of them
AGAIN = "Training goes on from the last checkpoint with resume=true."

Work = Callable[..., None]
"""What another process does: called with a Joining and what was given beside; it pickles."""


@dataclass(frozen=True)
class Joining:
    """How a process other than the first one joins the run, when it is ready."""

    rank: int
    settings: TrainSettings
    meeting: str
    connection: Connection

    @contextmanager
    def joined(self) -> Iterator[Group]:
        """Say that this process is ready, and wait for all others."""
        self.connection.send((READY, ""))
        group = Group(self.rank, self.settings.num_processes, self.meeting, self.settings.device)
        yield group
        group.close()


class _First(Group):
    """The first process, which passes on what is asked of it."""

    def __init__(self, others: _Others, *how: Any) -> None:
        super().__init__(0, *how)
        self._others = others

    def ask_to_stop(self) -> None:
        self._others.ask_to_stop()


@contextmanager
def together(settings: TrainSettings, work: Work | None, *given: Any) -> Iterator[Alone]:
    """The processes of a run, of which this is the first; the others do ``work(joining, *given)`` meanwhile.

    ``settings``: of this process. Raises PositronicError, naming it, when another process fails.
    """
    if settings.num_processes == 1:
        yield ALONE
        return
    with TemporaryDirectory(prefix="positronic_") as folder:
        meeting = str(Path(folder) / "meeting")
        others = _Others(settings, meeting, work, given)
        try:
            others.wait_until_ready()
            group = _First(others, settings.num_processes, meeting, settings.device)
            try:
                yield group
                others.join()
            except Exception as error:
                raise others.reason_for(error) from error
            finally:
                group.close()
        finally:
            others.end()


class _Others:
    """The processes beside the first one."""

    def __init__(self, settings: TrainSettings, meeting: str, work: Work, given: tuple[Any, ...]) -> None:
        self._settings = settings
        self._processes: dict[Connection, BaseProcess] = {}
        self._ended = threading.Event()
        context = _context()
        try:
            with signals_held(), without_main():
                for rank in range(1, settings.num_processes):
                    ours, theirs = context.Pipe(duplex=False)
                    joining = Joining(rank, of_rank(settings, rank), meeting, theirs)
                    process = context.Process(target=_be_another, args=(joining, work, given), name=f"rank {rank}")
                    process.start()
                    theirs.close()
                    self._processes[ours] = process
        except BaseException:  # a signal that came meanwhile
            self.end()
            raise
        threading.Thread(target=self._watch, name="processes", daemon=True).start()

    def wait_until_ready(self) -> None:
        """Raises PositronicError when one of them cannot begin."""
        expected = set(self._processes)
        while expected:
            for connection in wait(list(expected)):
                kind, text = self._said(connection)
                if kind != READY:
                    raise self._error(connection, kind, text)
                expected.remove(connection)

    def ask_to_stop(self) -> None:
        """As a scheduler asks; what they say to it is agreed on with the first one."""
        for process in self._processes.values():
            with suppress(OSError):
                os.kill(process.pid, signal.SIGTERM)

    def join(self) -> None:
        """Wait until they have ended by themselves."""
        for process in self._processes.values():
            process.join(ENDING_SEC)

    def end(self) -> None:
        """No process is left."""
        self._ended.set()
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()

    def reason_for(self, error: Exception) -> Exception:
        """What to raise for ``error`` of the first process: that of another one, if this one has lost it."""
        if not is_loss(error):
            return error
        found = [(each, *self._said(each)) for each in wait(list(self._processes), CAUSE_SEC)]
        causes = [each for each in found if each[1] != LOST] or found
        if causes:
            return self._error(*causes[0])
        limit = f"{GRADIENTS_SEC / 60:g} minutes (a batch or a checkpoint: {AGREEING_SEC / 60:g})"
        return PositronicError(
            f"A process of num_processes={self._settings.num_processes} did not answer within {limit}: {error}. {AGAIN}"
        )

    def _said(self, connection: Connection) -> tuple[str, str]:
        try:
            return connection.recv()
        except (EOFError, OSError):
            return FAILED, ""

    def _error(self, connection: Connection, kind: str, text: str) -> Exception:
        process = self._processes[connection]
        rank = list(self._processes).index(connection) + 1
        what = f"Process {rank + 1} of {self._settings.num_processes} (pid {process.pid})"
        if text and kind != FAILED:
            return PositronicError(f"{what} stopped: {text}")
        if text:
            return RuntimeError(f"{what} failed:\n{text}")
        process.join(CAUSE_SEC)
        return PositronicError(
            f"{what} {_how(process.exitcode)}. If it was killed for memory, type a smaller batch_size or fewer "
            f"processes. {AGAIN}"
        )

    def _watch(self) -> None:
        """If another process ends and the first one does not notice, as it may wait for a GPU, all end here."""
        sentinels = [process.sentinel for process in self._processes.values()]
        wait(sentinels)
        failed = [process for process in self._processes.values() if process.exitcode]
        if not failed or self._ended.wait(NOTICED_SEC):
            return
        print(f"{failed[0].name} {_how(failed[0].exitcode)}, and this process waits for it. {AGAIN}", file=sys.stderr)
        self.end()
        os._exit(UNNOTICED_CODE)


def is_loss(error: BaseException) -> bool:
    """Whether torch says by ``error`` that another process is not there, or does not answer."""
    return isinstance(error, RuntimeError) and LOST_SAID.search(str(error)) is not None


def _context() -> BaseContext:
    """Processes that are not forked from this one: a fork of a process that runs torch's threads can hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([IMPORTED])
    return context


def _be_another(joining: Joining, work: Work, given: tuple[Any, ...]) -> None:
    """In another process: deaf to signals until it trains."""
    die_with_parent()
    for number in (*STOPPING, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    hear()
    try:
        work(joining, *given)
    except KeyboardInterrupt:  # all have stopped
        return
    except Exception as error:
        kind = REFUSED if isinstance(error, PositronicError) else LOST if is_loss(error) else FAILED
        with suppress(OSError):  # the first one may be gone
            joining.connection.send((kind, traceback.format_exc() if kind == FAILED else str(error)))
        os._exit(1)  # nobody waits for its threads


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by signal {-code} ({signal.Signals(-code).name})"
