"""A session on the API's side, between one client's websocket and the inference worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import WebSocket, WebSocketDisconnect

from positronic import keys
from positronic.errors import MAX_NAME, PositronicError, clipped, did_you_mean, listing
from positronic.serving.failures import describe
from positronic.serving.link import Mailbox, WorkerLink
from positronic.serving.messages import Reply, Request, error_frame, refused_frame, status_frame
from positronic.serving.offer import find_offered
from positronic.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from positronic.storage.place import Place

STATUS_EVERY_SEC = 5.0  # clients give up after 30 s of silence
POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 1008, 1011, 1013
MAX_CLOSE_REASON_BYTES = 100
FULL = "This server has {} sessions open, as many as its server.max_sessions allows. Close one, or try again later."


class GoneError(Exception):
    """The client has left."""


class Peer:
    """One client. Its leaving is noticed at once, whatever the session is waiting for."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._incoming = asyncio.ensure_future(websocket.receive())

    async def receive(self) -> bytes | str:
        """The next frame. Raises GoneError."""
        message = await self._incoming
        if message["type"] == "websocket.disconnect":
            raise GoneError
        self._incoming = asyncio.ensure_future(self._websocket.receive())
        return message.get("bytes") or message.get("text") or b""

    async def send(self, frame: bytes) -> None:
        """Raises GoneError."""
        try:
            await self.unless_gone(self._websocket.send_bytes(frame))
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise GoneError from None

    async def refuse(self, reason: str, code: int = POLICY_VIOLATION) -> None:
        """Say why there will be no session, and close."""
        await self.end(refused_frame(reason), reason, code)

    async def end(self, frame: bytes, reason: str, code: int) -> None:
        """A last frame, then close."""
        await self.send(frame)
        short = reason.encode(errors="replace")[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self._websocket.close(code, short)

    async def unless_gone[T](self, awaited: Awaitable[T], timeout_sec: float | None = None) -> T:
        """The awaited value. Raises GoneError when the client leaves before, TimeoutError after ``timeout_sec``."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait({task, self._incoming}, timeout=timeout_sec, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and self._incoming.done() and not self._has_left():  # it speaks before its turn
                await asyncio.wait({task}, timeout=timeout_sec)
            if task.done():
                return task.result()
            raise GoneError if self._has_left() else TimeoutError
        finally:
            task.cancel()

    def close(self) -> None:
        """Stop listening."""
        self._incoming.cancel()

    def _has_left(self) -> bool:
        return self._incoming.done() and self._incoming.result()["type"] == "websocket.disconnect"


class SessionState(Enum):
    """Where a session is. Observations are taken in READY only."""

    OPENING = "opening"
    READY = "ready for an observation"
    ANSWERING = "answering one"
    CLOSED = "closed"


NEXT = {
    SessionState.OPENING: {SessionState.READY, SessionState.CLOSED},
    SessionState.READY: {SessionState.ANSWERING, SessionState.CLOSED},
    SessionState.ANSWERING: {SessionState.READY, SessionState.CLOSED},
    SessionState.CLOSED: set(),
}


class Conversation:
    """What is said in one session, in order. ``state`` says how far it is."""

    def __init__(self, peer: Peer, mailbox: Mailbox) -> None:
        self._peer, self._mailbox = peer, mailbox
        self.state = SessionState.OPENING

    async def open(self, checkpoint_id: str, needs: int = 0) -> bool:
        """Get the checkpoint, which will take at least ``needs`` bytes of memory. Tell the client what it waits for,
        then that it is ready, or why it never will be."""
        self._require(SessionState.OPENING)
        await self._mailbox.send(Request.OPEN, checkpoint_id, b"%d" % needs)
        reply, payload = await self._await_policy()
        if reply in (Reply.REFUSED, Reply.LOST):
            await self.refuse(payload.decode())
            return False
        await self._peer.send(payload)
        self._move(SessionState.READY)
        return True

    async def answer(self) -> None:
        """One observation, one answer. Raises GoneError when the client has left."""
        self._require(SessionState.READY)
        frame = await self._peer.receive()
        self._move(SessionState.ANSWERING)
        if isinstance(frame, str):
            await self._peer.send(error_frame("Expected an observation in a binary frame, found a text frame."))
        else:
            await self._mailbox.send(Request.INFER, payload=frame)
            reply, answer = await self._peer.unless_gone(self._mailbox.receive())
            if reply is Reply.LOST:
                reason = answer.decode()
                await self._peer.end(error_frame(reason), reason, INTERNAL_ERROR)
                raise GoneError
            await self._peer.send(answer)
        self._move(SessionState.READY)

    async def refuse(self, reason: str) -> None:
        """Say why there will be no session, and close."""
        self._require(SessionState.OPENING)
        await self._peer.refuse(reason)
        self._move(SessionState.CLOSED)

    async def _await_policy(self) -> tuple[Reply, bytes]:
        status, message = keys.STATUS_WAITING, "Waiting for the inference worker"
        start_sec = time.monotonic()
        while True:
            try:
                reply, payload = await self._peer.unless_gone(self._mailbox.receive(), STATUS_EVERY_SEC)
                if reply is not Reply.STATUS:
                    return reply, payload
                status, message = payload.decode().split(" ", 1)
            except TimeoutError:
                pass
            await self._peer.send(status_frame(status, f"{message} ({time.monotonic() - start_sec:.0f} s)"))

    def _require(self, expected: SessionState) -> None:
        if self.state is not expected:
            raise RuntimeError(f"A session: expected it to be {expected.value}, found it {self.state.value}.")

    def _move(self, state: SessionState) -> None:
        if state not in NEXT[self.state]:
            expected = " or ".join(sorted(each.value for each in NEXT[self.state])) or "to stay so"
            raise RuntimeError(f"A session that is {self.state.value}: expected {expected}, found {state.value}.")
        self.state = state


class Sessions:
    """The session route. ``default``: id of the checkpoint for clients that name none. ``most``: open at once."""

    def __init__(self, link: WorkerLink, checkpoints_dir: Path | Place, default: str, most: int) -> None:
        self._link, self._checkpoints_dir, self._default = link, checkpoints_dir, default
        self._most, self._open = most, 0

    async def serve(self, websocket: WebSocket) -> None:
        """Runs until the client leaves."""
        await websocket.accept()
        peer = Peer(websocket)
        try:
            if self._open >= self._most:
                await peer.refuse(FULL.format(self._most), TRY_AGAIN_LATER)
                return
            with self._counted():
                async with self._link.mailbox() as mailbox:
                    await self._talk(Conversation(peer, mailbox), websocket)
        except GoneError:
            pass
        finally:
            peer.close()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def _talk(self, conversation: Conversation, websocket: WebSocket) -> None:
        path, query = websocket.path_params.get(keys.QUERY_CHECKPOINT, ""), websocket.query_params.multi_items()
        try:
            wanted = wanted_checkpoint(path, query) or self._default
            checkpoint, needs = await asyncio.to_thread(self._find, wanted)
        except PositronicError as error:
            await conversation.refuse(str(error))
            return
        except OSError as error:  # the folder is gone, the bucket does not answer
            await conversation.refuse(f"The checkpoints cannot be listed: {describe(error)}")
            return
        if await conversation.open(checkpoint.id, needs):
            while True:
                await conversation.answer()

    def _find(self, wanted: str) -> tuple[Checkpoint, int]:
        checkpoint = find_offered(self._checkpoints_dir, wanted)
        return checkpoint, checkpoint.serving_bytes()


def wanted_checkpoint(path_id: str, query: Sequence[tuple[str, str]]) -> str:
    """The checkpoint's id in a session's address, from its path or its query; empty for the default.

    Raises PositronicError if the query says anything else or says it twice, or if path and query differ.
    """
    key = keys.QUERY_CHECKPOINT
    for name, _ in query:
        if name != key:
            raise PositronicError(f"Expected {key}=<id> in the session's address, or nothing, found {_named(name)}.")
    ids = [value for _, value in query]
    if len(ids) > 1 or "" in ids:
        raise PositronicError(f"Expected one id after {key}=, found {listing(map(repr, ids))}.")
    if ids and path_id and ids[0].lstrip("0") != path_id.lstrip("0"):
        path, said = clipped(path_id, MAX_NAME), clipped(ids[0], MAX_NAME)
        raise PositronicError(f"The path asks for checkpoint '{path}', {key}= for '{said}'. Expected one of them.")
    return ids[0] if ids else path_id


def _named(name: str) -> str:
    return f"'{clipped(name, MAX_NAME)}'.{did_you_mean(name, [keys.QUERY_CHECKPOINT])}".removesuffix(".")
