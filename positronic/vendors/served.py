"""A checkpoint behind a vendor's own server: what is the same for every vendor's wire."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.upstream.service import POLL_SEC, State, Status

TIMEOUT = "vendor.infer_timeout_sec"
PING_SEC = 1.0  # for a server that has nothing to do
REACH_SEC = 5.0  # to reach another machine
URL = re.compile(r"(?:(?:ws|tcp)://)?([\w.-]+):(\d{1,5})/?")
MAX_PORT = 1 << 16
ENDED_SEC = 2.0  # from a closed connection until the end of a server is known


class NoAnswerError(PositronicError):
    """The server did not answer in time. What it may still answer is for nobody."""


class ClosedError(NoAnswerError):
    """The server closed the connection, or is not there."""


class Connection(Protocol):
    """To a vendor's server, for one thread at a time. After NoAnswerError the next request makes another one."""

    def greet(self, timeout_sec: float) -> Any:
        """What the server says of itself. Raises NoAnswerError when it does not say it in time."""
        ...

    def close(self) -> None:
        """It may be used again."""
        ...


class Running(Protocol):
    """A vendor's server: a ``Service``, or one that is ``Elsewhere``."""

    status: Status

    def port(self) -> int:
        """Where it listens, when it is ready."""
        ...

    def left(self, port: int, timeout_sec: float) -> Status:
        """The status as soon as nobody is ready at ``port``, or after ``timeout_sec``."""
        ...

    def close(self) -> None:
        """End it, if it is ours."""
        ...


_stands_for: dict[str, Path] = {}  # url -> the checkpoint that was first asked for


@dataclass(frozen=True)
class Elsewhere:
    """A server that runs already: nobody here starts it, or ends it. ``url``: as of ``vendor.upstream_url``."""

    url: str

    @property
    def host(self) -> str:
        """Its machine. Raises PositronicError for what is no address."""
        return self._parts()[0]

    def port(self) -> int:
        """Its port. Raises PositronicError for what is no address."""
        return int(self._parts()[1])

    @property
    def status(self) -> Status:
        """Ready, as far as is known here."""
        return Status(State.READY, port=self.port())

    def left(self, port: int, timeout_sec: float) -> Status:
        """Nobody here learns that it ends."""
        return self.status

    def close(self) -> None:
        """It is not ours."""

    def standing_for(self, checkpoint: Path) -> Elsewhere:
        """Itself. Raises PositronicError when it stands for another checkpoint already, in this process: it has the
        weights of one, whatever it is asked for."""
        whose = _stands_for.setdefault(self.url, checkpoint.absolute())
        if whose != checkpoint.absolute():
            raise PositronicError(
                f"The server at vendor.upstream_url={self.url} answers for checkpoint {whose.name} here, and this "
                f"session asked for {checkpoint.name}. Start another server for that one."
            )
        return self

    def wait_until(self, ready: Callable[[int], bool], timeout_sec: float) -> None:
        """Wait until ``ready`` of its port. Raises PositronicError when nobody listens there, or it takes longer."""
        port, until = self.port(), time.monotonic() + timeout_sec
        try:
            socket.create_connection((self.host, port), REACH_SEC).close()
        except OSError as error:
            raise PositronicError(
                f"Nobody answers at vendor.upstream_url={self.url} ({error.strerror or error}). Start the vendor's "
                "server there, or leave it out: then one is started here."
            ) from None
        while not ready(port):
            if time.monotonic() >= until:
                raise PositronicError(
                    f"The server at vendor.upstream_url={self.url} was not ready within {timeout_sec:g} s. If it only "
                    "needs longer, type vendor.ready_timeout_sec=<more seconds>."
                )
            time.sleep(POLL_SEC)

    def _parts(self) -> tuple[str, str]:
        found = URL.fullmatch(self.url)
        if found is None or not 0 < int(found[2]) < MAX_PORT:
            raise PositronicError(f"vendor.upstream_url={self.url}: expected <host>:<port>, as 127.0.0.1:8000.")
        return found[1], found[2]


class Link[C: Connection]:
    """The connection to the server that runs now: one that was started again listens at another port. For any thread.

    ``what``: how messages call the server. ``connect``: of its port. ``log``: what it prints, in a folder of its own
    that is removed by ``close``; None for a server that is not ours.
    """

    def __init__(
        self, what: str, service: Running, connect: Callable[[int], C], timeout_sec: float, log: Path | None = None
    ) -> None:
        self.service, self.timeout_sec = service, timeout_sec
        self._what, self._connect, self._log = what, connect, log
        self._lock = threading.Lock()
        self._connection: C | None = None
        self._port = 0
        self._is_silent = False

    @contextmanager
    def asking(self) -> Iterator[C]:
        """The connection, for this thread alone. Waits until the first start is over.

        Raises PositronicError when the server could not be started, and while it is started again. NoAnswerError in the
        context becomes a sentence that says what to type.
        """
        with self._lock:
            try:
                connection = self._connected()
                if self._is_silent:  # not again for as long: others wait
                    connection.greet(PING_SEC)
                self._is_silent = False
                yield connection
            except NoAnswerError as error:
                self._is_silent = True
                raise self._explained(error) from None

    def close(self) -> None:
        """End the server, and leave nothing of it."""
        self.end()
        if self._log is not None:
            shutil.rmtree(self._log.parent, ignore_errors=True)

    def end(self) -> None:
        """End the server. What it printed stays."""
        self.service.close()
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> C:
        if self._port and self.service.status.state in (State.WAITING, State.LOADING):
            raise self._restarting()
        port = self.service.port()
        if self._connection is None or port != self._port:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._port, self._is_silent = self._connect(port), port, False
            self._connection.greet(self.timeout_sec)
        return self._connection

    def _explained(self, error: NoAnswerError) -> PositronicError:
        is_closed = isinstance(error, ClosedError)
        now = self.service.left(self._port, ENDED_SEC) if is_closed else self.service.status
        if now.state is not State.READY or now.port != self._port:
            return self._restarting()
        return error if is_closed else PositronicError(f"{error} A model may need longer: {TIMEOUT}=<seconds>.")

    def _restarting(self) -> PositronicError:
        why = self.service.status.error or ""
        return PositronicError(f"{self._what} has ended, and is started again. {why}".strip())


def new_log(name: str) -> Path:
    """A file of this name in a new folder."""
    return Path(tempfile.mkdtemp(prefix="positronic-")) / name


def checked(found: Any, shape: tuple[int, ...], server: str, name: str) -> NDArray[np.float32]:
    """The numbers that a server answered. Raises PositronicError unless they are finite, and of this shape."""
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        is_missing = "nothing" if found is None else f"{type(found).__name__} {getattr(found, 'dtype', '')}".strip()
        raise PositronicError(f"{server}: expected {name} as numbers, found {is_missing}.")
    if found.shape != shape:
        raise PositronicError(f"{server}: expected {name} with shape {shape}, found {found.shape}.")
    numbers = found.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise PositronicError(f"{server}: {name} is not a finite number everywhere.")
    return numbers
