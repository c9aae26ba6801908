"""A vendor's own server as a child: started on a free port, watched until it is ready, and started again if it dies."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from positronic.errors import PositronicError
from positronic.upstream.child import Child, Command, Ended, nothing
from positronic.upstream.failures import Symptom, failure, not_ready

LOOPBACK = "127.0.0.1"
POLL_SEC = 0.5  # from one question whether it is ready to the next


class State(Enum):
    """Of a service."""

    LOADING = "loading"
    READY = "ready"
    WAITING = "waiting"  # to be started again
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True)
class Status:
    """``elapsed_sec``: since this start of the child. ``port``: where it is ready; 0 otherwise. ``error``: why it
    failed, or why it is started again."""

    state: State
    elapsed_sec: float = 0.0
    port: int = 0
    error: PositronicError | None = None


@dataclass(frozen=True)
class Restarts:
    """How often a server that was ready once is started again: at most ``most`` times in a row, after ``first_sec``,
    twice that, and so on up to ``longest_sec``. A row ends when it was ready for ``steady_sec``."""

    most: int = 5
    first_sec: float = 1.0
    longest_sec: float = 60.0
    steady_sec: float = 60.0

    def wait_sec(self, before: int) -> float:
        """Before the next start, after ``before`` of them in a row."""
        return min(self.longest_sec, self.first_sec * 2**before)


def ignore(status: Status) -> None:
    """For who does not ask."""


@dataclass(frozen=True)
class Server:
    """What a service runs.

    what: how messages call it
    command: of the port that it is to listen on, at 127.0.0.1
    ready: whether the server at this port answers; called again and again, and must not take long
    log: file of all that it prints
    ready_timeout_sec: for each start
    timeout_parameter: what sets it, for messages
    symptoms: of the vendor
    """

    what: str
    command: Callable[[int], Command]
    ready: Callable[[int], bool]
    log: Path
    ready_timeout_sec: float = 300.0
    timeout_parameter: str = "vendor.ready_timeout_sec"
    symptoms: Sequence[Symptom] = ()


class Service:
    """A server that runs until ``close``. All methods may be called from any thread.

    ``report`` is called, in a thread of its own, at each change of state and at each question while it loads;
    ``on_line`` with each line that it prints. The first start is not tried again: what fails there fails always.
    """

    def __init__(
        self,
        server: Server,
        report: Callable[[Status], None] = ignore,
        on_line: Callable[[str], None] = nothing,
        restarts: Restarts = Restarts(),
    ) -> None:
        self._server, self._report, self._on_line, self._restarts = server, report, on_line, restarts
        self._status = Status(State.LOADING)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=server.what, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def status(self) -> Status:
        """As it is now."""
        with self._changed:
            return self._status

    def port(self) -> int:
        """Wait until the server is ready; where it listens. To be asked again after a connection has broken: a server
        that is started again has another port.

        Raises PositronicError when it could not be started, did not become ready in time, or was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._status.state in (State.READY, State.FAILED, State.CLOSED))
            if self._status.state is State.READY:
                return self._status.port
            raise self._status.error or PositronicError(f"{self._server.what} was closed.")

    def left(self, port: int, timeout_sec: float) -> Status:
        """The status as soon as nobody is ready at ``port``, or after ``timeout_sec``: that a server has ended is known
        here a little later than to who talks with it."""
        with self._changed:
            self._changed.wait_for(lambda: self._status.port != port, timeout_sec)
            return self._status

    def close(self) -> None:
        """End the server; back when nobody of it is left."""
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        row, was_ready = 0, False
        try:
            while True:
                ready_sec, error = self._once()
                was_ready = was_ready or ready_sec is not None
                row = 0 if ready_sec is not None and ready_sec >= self._restarts.steady_sec else row
                if self._closing.is_set():
                    return self._set(Status(State.CLOSED))
                if not was_ready or row >= self._restarts.most:
                    return self._set(Status(State.FAILED, error=error))
                self._set(Status(State.WAITING, error=error))
                self._closing.wait(self._restarts.wait_sec(row))
                row += 1
        except BaseException as error:  # of ``ready`` or ``report``: whoever waits for the port is to know
            told = error if isinstance(error, PositronicError) else PositronicError(f"{self._server.what}: {error!r}")
            self._set(Status(State.FAILED, error=told), report=False)

    def _once(self) -> tuple[float | None, PositronicError | None]:
        """One life of the server. Returns for how long it was ready, None for never, and why it ended."""
        server, port = self._server, free_port()
        try:
            child = Child(server.command(port), server.log, self._on_line)
        except PositronicError as error:
            return None, error
        with child:
            ended, late = self._load(child, port)
            if late:
                return None, not_ready(child.end(), server.what, server.ready_timeout_sec, server.timeout_parameter)
            began = time.monotonic()
            while ended is None and not self._closing.is_set():
                ended = child.wait(POLL_SEC)
        if ended is None:
            return None, None
        ready_sec = time.monotonic() - began if self.status.state is State.READY else None
        return ready_sec, failure(ended, server.what, server.symptoms)

    def _load(self, child: Child, port: int) -> tuple[Ended | None, bool]:
        """Until it is ready, has ended, or is too late: how it ended, and whether that was too late."""
        began = time.monotonic()
        while not self._closing.is_set():
            elapsed = time.monotonic() - began
            self._set(Status(State.LOADING, elapsed))
            if self._server.ready(port) and child.ended is None:
                self._set(replace(self.status, state=State.READY, port=port))
                return None, False
            if elapsed >= self._server.ready_timeout_sec:
                return None, True
            if (ended := child.wait(min(POLL_SEC, self._server.ready_timeout_sec))) is not None:
                return ended, False
        return None, False

    def _set(self, status: Status, report: bool = True) -> None:
        with self._changed:
            self._status = status
            self._changed.notify_all()
        if report:
            self._report(status)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]
