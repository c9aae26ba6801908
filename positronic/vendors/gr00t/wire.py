"""What Isaac-GR00T's server speaks: ZeroMQ, a msgpack map each way, and one of two ways to write an array.

``numpy``: of 626af89, the map of the package msgpack-numpy, with keys of bytes. ``npy``: of the tag n1.7-release, a
file of numpy's. The answer to ``get_modality_config`` needs no array and tells which one it is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np
import zmq

from positronic.errors import PositronicError
from positronic.upstream.service import LOOPBACK
from positronic.vendors.served import PING_SEC, NoAnswerError

NUMPY, NPY = "numpy", "npy"
DIALECTS = {"__ModalityConfig__": NUMPY, "__ModalityConfig_class__": NPY}  # by the mark of a part of the config
AS_JSON = "as_json"


def pings(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server that is loaded listens at ``port``; one that loads has bound nothing."""
    try:
        with Connection(port, host) as connection:
            return connection.ask("ping", timeout_sec=PING_SEC).get("status") == "ok"
    except NoAnswerError:
        return False


class Connection:
    """To the server at ``port`` of ``host``, by default this machine, which answers one request at a time. Context
    manager."""

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self._address = f"tcp://{host}:{port}"
        self._socket: zmq.Socket[bytes] | None = None
        self._dialect = NUMPY

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def greet(self, timeout_sec: float) -> dict[str, Any]:
        """The server's own description: kind -> names, steps and representation of its parts.

        Raises PositronicError when it writes arrays in a way that is not known.
        """
        answer = self.ask("get_modality_config", timeout_sec=timeout_sec)
        marks = {mark for part in answer.values() for mark in part if mark in DIALECTS}
        if len(marks) != 1:
            raise PositronicError(
                "Isaac-GR00T's server describes itself in a way that is not known here: it is of another version. "
                "Check out the tag n1.7-release, or the commit that docs/upstream.md names."
            )
        self._dialect = DIALECTS[marks.pop()]
        return {kind: part[AS_JSON] for kind, part in answer.items()}

    def actions(self, observation: Mapping[str, Any], timeout_sec: float) -> dict[str, Any]:
        """A batch of observations (video uint8 (B, 1, H, W, 3), state float32 (B, 1, D), language B lists of one text)
        -> part -> float32 (B, H, D)."""
        answer = self.ask("get_action", {"observation": dict(observation), "options": None}, timeout_sec)
        if not (isinstance(answer, list) and answer and isinstance(answer[0], dict)):
            raise PositronicError("Isaac-GR00T's server: expected the parts of an action, found something else.")
        return answer[0]

    def ask(self, endpoint: str, data: Any = None, timeout_sec: float = PING_SEC) -> Any:
        """The answer to one request.

        Raises NoAnswerError when there is none in time, and PositronicError with the server's words when it refuses.
        """
        request = {"endpoint": endpoint} | ({} if data is None else {"data": data})
        socket = self._connected()
        socket.send(msgpack.packb(request, default=WRITERS[self._dialect]))
        if not socket.poll(int(timeout_sec * 1000)):
            self.close()  # a late answer would be taken for that to the next request
            raise NoAnswerError(f"Isaac-GR00T's server did not answer within {timeout_sec:g} s.")
        try:
            answer = msgpack.unpackb(socket.recv(), object_hook=_read)
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise PositronicError(f"Isaac-GR00T's server answered what cannot be read: {error!r}.") from None
        if isinstance(answer, dict) and "error" in answer:
            raise PositronicError(f"Isaac-GR00T's server refuses: {answer['error'] or 'it gives no reason'}")
        return answer

    def close(self) -> None:
        """It may be used again: the next request makes another connection."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _connected(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            self._socket = zmq.Context.instance().socket(zmq.REQ)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.connect(self._address)
        return self._socket


def _as_numpy(value: Any) -> Any:
    array = _array(value)
    kind = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape}
    return kind | {b"data": array.tobytes()}


def _as_npy(value: Any) -> Any:
    file = io.BytesIO()
    np.save(file, _array(value), allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"no array: {type(value).__name__}")
    return value


WRITERS: dict[str, Callable[[Any], Any]] = {NUMPY: _as_numpy, NPY: _as_npy}


def _read(item: dict[Any, Any]) -> Any:
    if "__ndarray_class__" in item:
        return np.load(io.BytesIO(item["as_npy"]), allow_pickle=False)
    if item.get(b"nd") is True:
        return np.frombuffer(item[b"data"], np.dtype(item[b"type"])).reshape(item[b"shape"])
    return item
