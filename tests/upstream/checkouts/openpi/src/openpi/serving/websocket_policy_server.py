"""The server: one event loop, in which an inference blocks everything, /healthz too."""

import asyncio
import http
import logging
import time
import traceback
from typing import Any

import websockets.asyncio.server as _server
import websockets.exceptions
import websockets.frames
from openpi_client import base_policy as _base_policy
from openpi_client import msgpack_numpy

logger = logging.getLogger(__name__)


class WebsocketPolicyServer:
    def __init__(
        self,
        policy: _base_policy.BasePolicy,
        host: str = "0.0.0.0",
        port: int | None = None,
        metadata: dict | None = None,
    ) -> None:
        self._policy, self._host, self._port, self._metadata = policy, host, port, metadata or {}

    def serve_forever(self) -> None:
        asyncio.run(self.run())

    async def run(self) -> None:
        settings: dict[str, Any] = {"compression": None, "max_size": None, "process_request": _health_check}
        async with _server.serve(self._handler, self._host, self._port, **settings) as server:
            await server.serve_forever()

    async def _handler(self, websocket: _server.ServerConnection) -> None:
        logger.info(f"Connection from {websocket.remote_address} opened")
        packer, before = msgpack_numpy.Packer(), None
        await websocket.send(packer.pack(self._metadata))
        while True:
            try:
                began = time.monotonic()
                observation = msgpack_numpy.unpackb(await websocket.recv())
                inferring = time.monotonic()
                action = self._policy.infer(observation)
                action["server_timing"] = {"infer_ms": (time.monotonic() - inferring) * 1000}
                if before is not None:
                    action["server_timing"]["prev_total_ms"] = before * 1000
                await websocket.send(b"\xc1" if action.pop("garbage", False) else packer.pack(action))
                before = time.monotonic() - began
            except websockets.exceptions.ConnectionClosed:
                logger.info(f"Connection from {websocket.remote_address} closed")
                break
            except Exception:
                await websocket.send(traceback.format_exc())
                reason = "Internal server error. Traceback included in previous frame."
                await websocket.close(websockets.frames.CloseCode.INTERNAL_ERROR, reason)
                raise


def _health_check(connection: _server.ServerConnection, request: _server.Request) -> _server.Response | None:
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None
