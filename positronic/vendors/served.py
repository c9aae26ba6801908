"""A checkpoint behind a vendor's own server: what is the same for every vendor's wire."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.upstream.service import Service, State

TIMEOUT = "vendor.infer_timeout_sec"
PING_SEC = 1.0  # for a server that has nothing to do
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


class Link[C: Connection]:
    """The connection to the server that runs now: one that was started again listens at another port. For any thread.

    ``what``: how messages call the server. ``connect``: of its port. ``log``: what it prints, in a folder of its own
    that is removed by ``close``.
    """

    def __init__(self, what: str, service: Service, connect: Callable[[int], C], timeout_sec: float, log: Path) -> None:
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
