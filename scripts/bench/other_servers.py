"""Servers as others write them, over the same toy model and without any codec: ``other_servers.py NAME PORT``.

plain     one process: uvicorn, Starlette's websocket, and the model behind a lock in a thread
lock      the same over a trained policy with its codec: ``other_servers.py lock PORT EXPERIMENT DEVICE``
floor     the same web server, which takes a frame in and sends a finished answer, and nothing else; its passes begin
          when every robot has asked: what this machine can do at most
openpi    openpi's way: the websockets library, and the model in the event loop
litserve  LitServe's own batching, 16 observations or 5 ms, over HTTP with pictures as base64 in JSON

``published`` needs the published model server, positronic-model-server, and is run by the interpreter that has it; it
imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

STEPS = 16
LATE_SEC = 0.1  # after which a pass begins without those who have left off asking
STATE = [0.4, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0, 0.5]
PASS_SEC, ITEM_SEC = (float(os.environ.get(f"POSITRONIC_TOY_{name}_MS", 0)) / 1000 for name in ("PASS", "ITEM"))


def predict(count: int) -> list[dict[str, Any]]:
    """The steps that every server answers, after the time that a batch of ``count`` takes."""
    if PASS_SEC:
        time.sleep(PASS_SEC + ITEM_SEC * count)
    return steps()


def steps() -> list[dict[str, Any]]:
    """What every server answers."""
    pose = np.array(STATE[:7])
    return [
        {"robot_command": {"type": "joint_pos", "positions": pose}, "target_grip": 0.5, "timestamp": step / 15}
        for step in range(STEPS)
    ]


def plain(port: int) -> None:
    from positronic.utils.serialization import deserialise, serialise

    def answer(frame: bytes) -> bytes:
        deserialise(frame)
        return serialise({"result": predict(1)})

    _one_process(port, _locked(answer))


def floor(port: int) -> None:
    from positronic.utils.serialization import serialise

    answer, waiting = serialise({"result": steps()}), list[asyncio.Future[bytes]]()

    def begin() -> None:
        batch = waiting.copy()
        waiting.clear()
        asyncio.get_running_loop().call_later(PASS_SEC + ITEM_SEC * len(batch), end, batch)

    def end(batch: list[asyncio.Future[bytes]]) -> None:
        for each in batch:
            if not each.done():  # its robot has left
                each.set_result(answer)

    def begin_without_others(mine: asyncio.Future[bytes]) -> None:
        if mine in waiting:
            begin()

    async def answered(frame: bytes, robots: int) -> bytes:
        loop = asyncio.get_running_loop()
        waiting.append(mine := loop.create_future())
        if len(waiting) >= robots:
            begin()
        else:
            loop.call_later(LATE_SEC, begin_without_others, mine)
        return await mine

    _one_process(port, answered)


def lock(port: int, experiment: str, device: str) -> None:
    from positronic.serving.policy import load_policy
    from positronic.serving.scheduler import answer_frames

    policy = load_policy(experiment, None, device)
    _one_process(port, _locked(lambda frame: answer_frames(policy, [frame])[0]))


Answered = Callable[[bytes, int], Awaitable[bytes]]
"""A frame, and how many robots there are -> what is sent."""


def _locked(answer: Callable[[bytes], bytes]) -> Answered:
    one_at_a_time = threading.Lock()

    def locked(frame: bytes) -> bytes:
        with one_at_a_time:
            return answer(frame)

    return lambda frame, robots: asyncio.to_thread(locked, frame)


def _one_process(port: int, answered: Answered) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    from positronic.utils.serialization import serialise

    robots = set[WebSocket]()

    async def session(websocket: WebSocket) -> None:
        await websocket.accept()
        robots.add(websocket)
        await websocket.send_bytes(serialise({"status": "ready", "meta": {}}))
        try:
            while True:
                await websocket.send_bytes(await answered(await websocket.receive_bytes(), len(robots)))
        except WebSocketDisconnect:
            robots.discard(websocket)

    options = {"ws": "websockets-sansio", "ws_per_message_deflate": False, "ws_max_size": 1 << 26}
    app = Starlette(routes=[WebSocketRoute("/", session)])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", **options)


def openpi(port: int) -> None:
    from websockets.asyncio.server import serve

    from positronic.utils.serialization import deserialise, serialise

    async def session(websocket: Any) -> None:
        await websocket.send(serialise({"status": "ready"}))
        async for frame in websocket:
            deserialise(frame)
            await websocket.send(
                serialise({"actions": np.tile(np.array(STATE), (STEPS, 1)), "result": len(predict(1))})
            )

    async def run() -> None:
        async with serve(session, "127.0.0.1", port, compression=None, max_size=None) as server:
            await server.serve_forever()

    asyncio.run(run())


def litserve(port: int) -> None:
    from bench.stock_litserve import serve

    serve(port)


def published(port: int) -> None:
    from positronic_model_server import server, server_wire, websocket_wire

    class Session(server.Session):
        def infer(self, observation: Any) -> Any:
            return predict(1)

    class Model(server.Model):
        def prepare_session(self, params: dict[str, Any]) -> Session:
            return Session({"name": "chunked_schedule", "version": 3, "args": {"fps": 15.0}})

    address = server_wire.ServedHostPort("127.0.0.1", port)
    server.ModelServer(Model).serve([websocket_wire.WebsocketWire(address)])


if __name__ == "__main__":
    servers = {each.__name__: each for each in (plain, lock, floor, openpi, litserve, published)}
    servers[sys.argv[1]](int(sys.argv[2]), *sys.argv[3:])
