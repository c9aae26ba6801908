"""One client's websocket, as a session sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from websockets.frames import CloseCode

from positronic.serving.protocols import STOPPING
from positronic.utils.serialization import MAX_FRAME_BYTES

MAX_CLOSE_REASON_BYTES = 100
STOPS = "The server stops; connect again later."
MAX_EARLY_FRAMES, MAX_EARLY_BYTES = 16, MAX_FRAME_BYTES
TOO_EARLY = f"More than {MAX_EARLY_FRAMES} frames or {MAX_EARLY_BYTES >> 20} MiB came early. Wait for each answer."


def _begun[T](coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that has run until it had to wait. Most sendings never have to, and cost no turn of the loop."""
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)


class GoneError(Exception):
    """The client has left."""


class EndedError(Exception):
    """The server ends the session. ``reason``: for the client. ``code``: that the connection is closed with."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


class Peer:
    """One client. Its leaving is noticed at once, whatever the session is waiting for.

    A websocket tells of it only to one who reads, behind all that was sent before. So frames that come before their
    turn are read too, and wait here: as many as ``MAX_EARLY_FRAMES``, as large together as ``MAX_EARLY_BYTES``.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._incoming = _begun(websocket.receive())
        self._early: deque[bytes | str] = deque()
        self._ending: EndedError | None = None
        self._is_stopping = False

    async def receive(self) -> bytes | str:
        """The next frame. Raises GoneError, and EndedError after ``interrupt`` or when the server stops."""
        if self._early:
            return self._early.popleft()
        if self._is_stopping:
            raise EndedError(STOPS, CloseCode.SERVICE_RESTART)
        try:
            message = await self._incoming
        except asyncio.CancelledError:
            if self._ending is None:
                raise
            raise self._ending from None
        if STOPPING in message:
            raise EndedError(STOPS, CloseCode.SERVICE_RESTART)
        if message["type"] == "websocket.disconnect":
            raise GoneError
        self._incoming = _begun(self._websocket.receive())
        return _frame(message)

    async def send(self, frame: bytes | str) -> None:
        """Raises GoneError, and EndedError as ``unless_gone``."""
        sending = self._websocket.send_text if isinstance(frame, str) else self._websocket.send_bytes
        try:
            await self.unless_gone(sending(frame))
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise GoneError from None

    async def end(self, frame: bytes | str, reason: str, code: int) -> None:
        """A last frame, then close."""
        await self.send(frame)
        await self.close_with(reason, code)

    async def close_with(self, reason: str, code: int) -> None:
        """Close, and say why in as much as a closing frame holds."""
        short = reason.encode(errors="replace")[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self._websocket.close(code, short)

    def interrupt(self, ending: EndedError) -> None:
        """Let ``receive`` raise this. A frame that has come already is received first."""
        self._ending = ending
        self._incoming.cancel()

    async def unless_gone[T](
        self, awaited: Coroutine[Any, Any, T], timeout_sec: float | None = None, or_stopping: bool = False
    ) -> T:
        """The awaited value. Raises GoneError when the client leaves before, TimeoutError after ``timeout_sec``, and
        EndedError when more frames come before their turn than wait here.

        When the server stops, this waits on, unless ``or_stopping``: then it raises EndedError.
        """
        task = _begun(awaited)
        if task.done():
            return task.result()
        try:
            async with asyncio.timeout(timeout_sec):
                while not task.done():
                    if or_stopping and self._is_stopping:
                        raise EndedError(STOPS, CloseCode.SERVICE_RESTART)
                    await asyncio.wait({task, self._incoming}, return_when=asyncio.FIRST_COMPLETED)
                    if self._incoming.done() and not task.done():
                        self._hear_early()
            return task.result()
        finally:
            task.cancel()

    def close(self) -> None:
        """Stop listening."""
        self._incoming.cancel()

    def _hear_early(self) -> None:
        message = self._incoming.result()
        if message["type"] == "websocket.disconnect":
            raise GoneError
        if STOPPING in message:
            self._is_stopping = True
        elif not self._is_stopping:  # what comes later has no answer
            self._early.append(_frame(message))
            if len(self._early) > MAX_EARLY_FRAMES or sum(map(len, self._early)) > MAX_EARLY_BYTES:
                raise EndedError(TOO_EARLY, CloseCode.POLICY_VIOLATION)
        self._incoming = _begun(self._websocket.receive())


def _frame(message: Mapping[str, Any]) -> bytes | str:
    return message.get("bytes") or message.get("text") or b""
