"""The server's side of the wire: ZeroMQ REP, one msgpack frame each way, arrays in the dialect of the version.

626af89 writes arrays as msgpack-numpy does; 23ace64 and ead5283 write them as .npy files.
"""

import io
import traceback
from collections.abc import Callable
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import zmq

from gr00t import standin
from gr00t.data.types import ModalityConfig, to_json


class MsgSerializer:
    @staticmethod
    def to_bytes(data: Any) -> bytes:
        return msgpack.packb(data, default=_encode_nd if standin.version() == "main" else _encode_npy)

    @staticmethod
    def from_bytes(data: bytes) -> Any:
        return msgpack.unpackb(data, object_hook=_decode_nd if standin.version() == "main" else _decode_npy)


def _encode_nd(value: Any) -> Any:
    if isinstance(value, ModalityConfig):
        return {"__ModalityConfig__": True, "as_json": to_json(value)}
    _require_numbers(value)
    return msgpack_numpy.encode(value)


def _decode_nd(value: dict[Any, Any]) -> Any:
    if value.get(b"nd") is True and value.get(b"kind") == b"O":
        raise ValueError("Object arrays are not allowed")
    return msgpack_numpy.decode(value)


def _encode_npy(value: Any) -> Any:
    if isinstance(value, ModalityConfig):
        return {"__ModalityConfig_class__": True, "as_json": to_json(value)}
    if not isinstance(value, np.ndarray):
        return value
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}


def _decode_npy(value: dict[Any, Any]) -> Any:
    if "__ndarray_class__" in value:
        return np.load(io.BytesIO(value["as_npy"]), allow_pickle=False)
    return value


def _require_numbers(value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        raise ValueError("Object arrays are not allowed")


class PolicyServer:
    def __init__(self, policy: Any, host: str = "*", port: int = 5555) -> None:
        self.policy, self.running = policy, True
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.REP)
        self.socket.bind(f"tcp://{host}:{port}")
        self._endpoints: dict[str, tuple[Callable[..., Any], bool]] = {
            "ping": (lambda: {"status": "ok", "message": "Server is running"}, False),
            "kill": (self._kill, False),
            "get_action": (policy.get_action, True),
            "reset": (policy.reset, True),
            "get_modality_config": (policy.get_modality_config, False),
        }

    def _kill(self) -> None:
        self.running = False

    def run(self) -> None:
        print(f"Server is ready and listening on {self.socket.getsockopt_string(zmq.LAST_ENDPOINT)}", flush=True)
        while self.running:
            message = self.socket.recv()
            try:
                reply = self._answer(message)
            except Exception as error:
                print(f"Error in server: {error}\n{traceback.format_exc()}", flush=True)
                reply = MsgSerializer.to_bytes({"error": str(error)})
            self.socket.send(reply)
        self._context.destroy()  # waits until the last reply is sent

    def _answer(self, message: bytes) -> bytes:
        request = MsgSerializer.from_bytes(message)
        endpoint = request.get("endpoint", "get_action")
        if endpoint not in self._endpoints:
            raise ValueError(f"Unknown endpoint: {endpoint}")
        handler, takes_data = self._endpoints[endpoint]
        reply = handler(**request.get("data", {})) if takes_data else handler()
        return reply if isinstance(reply, bytes) else MsgSerializer.to_bytes(reply)
