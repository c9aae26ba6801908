"""A session on the API's side, between one client's websocket and the inference worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any

from fastapi import WebSocket
from websockets.frames import CloseCode

from positronic import keys
from positronic.errors import MAX_NAME, PositronicError, clipped, did_you_mean, listing
from positronic.serving.discretion import hide, told
from positronic.serving.failures import describe
from positronic.serving.framing import Framing, OpenPiFraming, PositronicFraming
from positronic.serving.journal import EARLY, FULL, STOPPED, UNAVAILABLE, Journal, Visit
from positronic.serving.link import Mailbox, WorkerLink
from positronic.serving.messages import Reply, Request
from positronic.serving.metrics import Metrics
from positronic.serving.offer import find_offered
from positronic.serving.peer import EndedError, GoneError, Peer
from positronic.serving.policy import read_checkpoint
from positronic.serving.settings import ServerSettings
from positronic.serving.stated import read_stated, require_fit
from positronic.training.checkpoints import Checkpoint

STATUS_EVERY_SEC = 5.0  # clients give up after 30 s of silence
MAX_LISTINGS = 4  # folders that are listed at a time; each may be in a bucket that does not answer
LISTING = "Listing the checkpoints"
NO_BINARY = "Expected an observation in a binary frame, found a text frame."
FULL_SERVER = (
    "This server has {} sessions open, as many as its server.max_sessions allows. Close one, or try again later."
)
FULL_ADDRESS = (
    "This server has {} sessions open from your address, as many as its server.max_sessions_per_address allows. Close "
    "one, or try again later."
)
IDLE = "No observation came for {:g} s, as long as server.idle_timeout_sec allows. Open a new session."
LEFT = "the client has left"
UNKNOWN = "an unknown address"


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
    """What is said in one session, in order. ``state`` says how far it is. ``idle_sec``: how long the client may send
    nothing, None for ever."""

    def __init__(
        self, peer: Peer, mailbox: Mailbox, framing: Framing, visit: Visit, idle_sec: float | None = None
    ) -> None:
        self._peer, self._mailbox, self._framing, self._visit = peer, mailbox, framing, visit
        self._idle_sec = idle_sec
        self.state = SessionState.OPENING
        mailbox.on_lost = self._end_if_idle

    async def find[T](self, finding: asyncio.Future[T]) -> T:
        """What is found. Tell the client meanwhile that it waits. Raises what ``finding`` does, and EndedError when the
        server stops."""
        self._require(SessionState.OPENING)
        start_sec = time.monotonic()
        try:
            while True:
                try:
                    return await self._peer.unless_gone(_found(finding), STATUS_EVERY_SEC, or_stopping=True)
                except TimeoutError:
                    if finding.done():  # the bucket's own
                        raise
                await self._tell(keys.STATUS_WAITING, LISTING, start_sec)
        finally:
            finding.cancel()

    async def open(self, checkpoint_id: str, needs: int = 0) -> bool:
        """Get the checkpoint, which will take at least ``needs`` bytes of memory. Tell the client what it waits for,
        then that it is ready, or why it never will be."""
        self._require(SessionState.OPENING)
        await self._mailbox.send(Request.OPEN, checkpoint_id, f"{needs} {self._framing.wire}".encode())
        try:
            reply, payload = await self._await_policy()
        except EndedError as ended:
            await self.end(ended)
            return False
        if reply is Reply.LOST:
            reason, code = _lost(payload)
            await self.refuse(reason, STOPPED, code)
            return False
        if reply is Reply.REFUSED:
            await self.refuse(payload.decode())
            return False
        await self._peer.send(payload)
        self._move(SessionState.READY)
        self._visit.ready(checkpoint_id)
        return True

    async def answer(self) -> None:
        """One observation, one answer. Raises GoneError when the client has left, EndedError when the session was
        ended."""
        self._require(SessionState.READY)
        frame = await self._observation()
        self._move(SessionState.ANSWERING)
        if isinstance(frame, str):
            await self._fail(NO_BINARY)
        else:
            begin_sec = time.perf_counter()
            await self._mailbox.send(Request.INFER, payload=frame)
            await self._hear(*await self._peer.unless_gone(self._mailbox.receive()), begin_sec)
        self._move(SessionState.READY)

    async def _observation(self) -> bytes | str:
        ending = None
        if self._idle_sec is not None:
            idle = EndedError(IDLE.format(self._idle_sec), CloseCode.NORMAL_CLOSURE)
            ending = asyncio.get_running_loop().call_later(self._idle_sec, self._peer.interrupt, idle)
        try:
            return await self._peer.receive()
        finally:
            if ending is not None:
                ending.cancel()

    async def _hear(self, reply: Reply, said: bytes, begin_sec: float) -> None:
        if reply is Reply.LOST:
            reason, code = _lost(said)
            await self._framing.lose(self._peer, reason, code)
            raise EndedError(reason, code)
        if reply is Reply.FAILED:
            await self._fail(said.decode())
        else:
            await self._peer.send(said)
            self._visit.answered(time.perf_counter() - begin_sec)

    async def _fail(self, reason: str) -> None:
        self._visit.failed(reason)
        await self._framing.fail(self._peer, told(reason))

    async def refuse(self, reason: str, why: str = UNAVAILABLE, code: int = CloseCode.POLICY_VIOLATION) -> None:
        """Say why there will be no session, and close. ``why``: in the metrics' words."""
        self._require(SessionState.OPENING)
        self._visit.refused(why, reason)
        await self._framing.refuse(self._peer, told(reason), code)
        self._move(SessionState.CLOSED)

    async def end(self, ended: EndedError) -> None:
        """Refuse the session, for what happened while it was waited for."""
        why = EARLY if ended.code == CloseCode.POLICY_VIOLATION else STOPPED
        await self.refuse(ended.reason, why, ended.code)

    def _end_if_idle(self, reason: str, code: int) -> None:
        if self.state is SessionState.READY:
            self._peer.interrupt(EndedError(reason, code))

    async def _await_policy(self) -> tuple[Reply, bytes]:
        status, message = keys.STATUS_WAITING, "Waiting for the inference worker"
        start_sec = time.monotonic()
        while True:
            try:
                receiving = self._mailbox.receive()
                reply, payload = await self._peer.unless_gone(receiving, STATUS_EVERY_SEC, or_stopping=True)
                if reply is not Reply.STATUS:
                    return reply, payload
                status, message = payload.decode().split(" ", 1)
            except TimeoutError:
                pass
            await self._tell(status, message, start_sec)

    async def _tell(self, status: str, message: str, start_sec: float) -> None:
        await self._framing.tell(self._peer, status, f"{message} ({time.monotonic() - start_sec:.0f} s)")

    def _require(self, expected: SessionState) -> None:
        if self.state is not expected:
            raise RuntimeError(f"A session: expected it to be {expected.value}, found it {self.state.value}.")

    def _move(self, state: SessionState) -> None:
        if state not in NEXT[self.state]:
            expected = " or ".join(sorted(each.value for each in NEXT[self.state])) or "to stay so"
            raise RuntimeError(f"A session that is {self.state.value}: expected {expected}, found {state.value}.")
        self.state = state


class Sessions:
    """The session routes. ``default``: id of the checkpoint for clients that name none."""

    def __init__(self, link: WorkerLink, settings: ServerSettings, default: str, metrics: Metrics) -> None:
        self._link, self._settings, self._default, self._metrics = link, settings, default, metrics
        hide(str(settings.checkpoints_dir))
        self._journal = Journal(metrics)
        self._listing = ThreadPoolExecutor(MAX_LISTINGS, "listing")
        self._open: Counter[str] = Counter()

    async def serve(self, websocket: WebSocket) -> None:
        """A session of our protocol. Runs until the client leaves."""
        await self._serve(websocket, PositronicFraming())

    async def serve_openpi(self, websocket: WebSocket) -> None:
        """A session with one of openpi's clients. Runs until the client leaves."""
        await self._serve(websocket, OpenPiFraming())

    async def _serve(self, websocket: WebSocket, framing: Framing) -> None:
        await websocket.accept()
        peer = Peer(websocket)
        visit = self._journal.visit(websocket.client.host if websocket.client else UNKNOWN)
        why = LEFT
        try:
            full = self._full(visit.address)
            if full is not None:
                visit.refused(FULL, full)
                await framing.refuse(peer, full, CloseCode.TRY_AGAIN_LATER)
                return
            with self._counted(visit.address):
                async with self._link.mailbox(visit.number) as mailbox:
                    idle_sec = self._settings.idle_timeout_sec
                    await self._talk(Conversation(peer, mailbox, framing, visit, idle_sec), websocket)
        except GoneError:
            pass
        except EndedError as ended:
            why = ended.reason
            await peer.close_with(ended.reason, ended.code)  # without a frame that could be taken for an answer
        finally:
            visit.ended(why)
            peer.close()

    def _full(self, address: str) -> str | None:
        """Why no further session is let in."""
        most, each = self._settings.max_sessions, self._settings.max_sessions_per_address
        if self._open.total() >= most:
            return FULL_SERVER.format(most)
        if each is not None and self._open[address] >= each:
            return FULL_ADDRESS.format(each)
        return None

    @contextlib.contextmanager
    def _counted(self, address: str) -> Iterator[None]:
        self._open[address] += 1
        self._metrics.sessions.inc()
        try:
            yield
        finally:
            self._metrics.sessions.dec()
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _talk(self, conversation: Conversation, websocket: WebSocket) -> None:
        path, query = websocket.path_params.get(keys.QUERY_CHECKPOINT, ""), websocket.query_params.multi_items()
        try:
            wanted = wanted_checkpoint(path, query) or self._default
            stated = read_stated(websocket.headers.get(keys.HEADER_ROBOT))
            finding = asyncio.get_running_loop().run_in_executor(self._listing, self._find, wanted, stated)
            checkpoint, needs = await conversation.find(finding)
        except EndedError as ended:
            await conversation.end(ended)
            return
        except PositronicError as error:
            await conversation.refuse(str(error))
            return
        except OSError as error:  # the folder is gone, the bucket does not answer
            await conversation.refuse(f"The checkpoints cannot be listed: {describe(error)}")
            return
        if await conversation.open(checkpoint.id, needs):
            while True:
                await conversation.answer()

    def _find(self, wanted: str, stated: Mapping[str, Any]) -> tuple[Checkpoint, int]:
        checkpoint = find_offered(self._settings.checkpoints_dir, wanted)
        if stated:
            recipe, _, _ = read_checkpoint(checkpoint)
            require_fit(checkpoint.id, recipe, stated)
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


async def _found[T](finding: asyncio.Future[T]) -> T:
    return await asyncio.shield(finding)  # one who leaves off waiting does not end it


def _lost(payload: bytes) -> tuple[str, int]:
    code, _, reason = payload.decode().partition(" ")
    return reason, int(code)


def _named(name: str) -> str:
    return f"'{clipped(name, MAX_NAME)}'.{did_you_mean(name, [keys.QUERY_CHECKPOINT])}".removesuffix(".")
