"""What openpi's server speaks: a websocket with a msgpack map each way, and its own way to write an array.

The server's first frame is its metadata. Then it answers one observation after the other; while it does, nobody else is
answered, and neither is a ping. What goes wrong there it says in a text frame, a traceback, and closes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection, connect

from positronic.errors import PositronicError, clipped
from positronic.upstream.service import LOOPBACK
from positronic.vendors.served import ClosedError, NoAnswerError

WHAT = "openpi's server"
CLOSE_SEC = 0.5  # a server that calculates does not say goodbye
MAX_REASON = 500
FOLDERS = re.compile(r"(?<![\w./])/(?:[^\s/'\":]+/)+")  # of an absolute path, before the file's name


class Connection:
    """To the server at ``port`` of ``host``, by default this machine. Context manager."""

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self._address = f"ws://{host}:{port}"
        self._opened = contextlib.ExitStack()
        self._socket: ClientConnection | None = None
        self._metadata: dict[str, Any] = {}

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def greet(self, timeout_sec: float) -> dict[str, Any]:
        """The server's metadata. A connection that is open already has it.

        Raises ClosedError when nobody listens, NoAnswerError when the server is busy for longer.
        """
        if self._socket is None:
            self._open(timeout_sec)
        return self._metadata

    def infer(self, observation: Mapping[str, Any], timeout_sec: float) -> dict[str, Any]:
        """The answer to one observation: ``actions`` float64 (H, A), and times.

        Raises NoAnswerError when there is none in time, and PositronicError with the last line of the server's words
        when it refuses. Both close the connection.
        """
        try:
            self.greet(timeout_sec)
            self.send(observation)
            return self.receive(timeout_sec)
        except PositronicError:
            self.close()  # a late answer would be taken for that to the next observation
            raise

    def send(self, observation: Mapping[str, Any]) -> None:
        """Ask, on a connection that ``greet`` has opened. Raises ClosedError when the server has closed it."""
        try:
            self._socket.send(msgpack.packb(dict(observation), default=_write))
        except ConnectionClosed:
            raise ClosedError(f"{WHAT} closed the connection.") from None

    def receive(self, timeout_sec: float) -> dict[str, Any]:
        """The next frame. May be called again after NoAnswerError."""
        try:
            frame = self._socket.recv(timeout_sec)
        except TimeoutError:
            raise NoAnswerError(f"{WHAT} did not answer within {timeout_sec:g} s.") from None
        except ConnectionClosed:
            raise ClosedError(f"{WHAT} closed the connection before it answered.") from None
        if isinstance(frame, str):
            raise PositronicError(f"{WHAT} refuses: {reason(frame)}")
        try:
            answer = msgpack.unpackb(frame, object_hook=_read)
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise PositronicError(f"{WHAT} answered what cannot be read: {error!r}.") from None
        if not isinstance(answer, dict):
            raise PositronicError(f"{WHAT}: expected a map, found {type(answer).__name__}.")
        return answer

    def close(self) -> None:
        """It may be used again: the next request makes another connection."""
        with contextlib.suppress(ConnectionClosed):  # the server may be gone
            self._opened.close()
        self._socket = None

    def _open(self, timeout_sec: float) -> None:
        try:
            opening = connect(
                self._address,
                compression=None,
                max_size=None,
                proxy=None,
                open_timeout=timeout_sec,
                ping_interval=None,  # it would be taken for lost while it calculates
                close_timeout=CLOSE_SEC,
            )
            self._socket = self._opened.enter_context(opening)
        except TimeoutError:
            raise NoAnswerError(f"{WHAT} did not answer within {timeout_sec:g} s.") from None
        except (OSError, InvalidHandshake, InvalidMessage):
            raise ClosedError(f"{WHAT} does not listen at {self._address}.") from None
        try:
            self._metadata = self.receive(timeout_sec)
        except PositronicError:
            self.close()
            raise


def reason(traceback: str) -> str:
    """The last line, with names of files but without the folders of the server's machine."""
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    return clipped(FOLDERS.sub("", lines[-1]), MAX_REASON) if lines else "it gives no reason"


def _write(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"no array: {type(value).__name__}")
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}


def _read(item: dict[Any, Any]) -> Any:
    if b"__ndarray__" in item:
        return np.frombuffer(item[b"data"], np.dtype(item[b"dtype"])).reshape(item[b"shape"])
    if b"__npgeneric__" in item:
        return np.dtype(item[b"dtype"]).type(item[b"data"])
    return item
