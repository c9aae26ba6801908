"""The API process's lines to the inference worker, and to the main process.

The worker is asked for a sign of life. It gives none while a forward pass runs, so one that gives none for very long
while sessions are open has a model that hangs, or was stopped: then the main process is told, which kills it. When a
worker has gone, the main process says so and whether there will be a new one. The sessions of the old one are told and
end; what they had sent is forgotten with the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import zmq
import zmq.asyncio

from positronic.serving.messages import Reply, Request, Session
from positronic.serving.recorder import WorkerState
from positronic.serving.supervision import Loss

ASK_SEC = 1.0
START_SEC = 60.0  # that a new worker may take until its first sign of life
NOBODY: Session = b""


class Mailbox:
    """One session's line to the worker. One request is outstanding at a time."""

    def __init__(self, session: Session, send: Callable[[list[bytes]], Awaitable[Any]]) -> None:
        self.session = session
        self.replies: asyncio.Queue[tuple[Reply, bytes]] = asyncio.Queue()
        self.on_lost: Callable[[str, int], None] = lambda reason, code: None  # beside the reply
        self._send = send

    async def send(self, request: Request, checkpoint: str = "", payload: bytes = b"") -> None:
        await self._send([self.session, request, checkpoint.encode(), payload])

    async def receive(self) -> tuple[Reply, bytes]:
        return await self.replies.get()

    def lose(self, reason: str, code: int) -> None:
        """The worker has gone."""
        self.replies.put_nowait((Reply.LOST, f"{code} {reason}".encode()))
        self.on_lost(reason, code)


class WorkerLink:
    """The API process's end of the socket at ``address``, and of ``main``, the line to the main process.

    ``silence_sec``: how long the worker may give no sign of life while sessions are open. ``state``: what the worker
    has told of itself, None until it has.
    """

    def __init__(self, address: str, silence_sec: float, main: Connection) -> None:
        self._address, self._silence_sec, self._main = address, silence_sec, main
        self.state: WorkerState | None = None
        self.losses = 0
        self._heard_sec = 0.0
        self._mailboxes: dict[Session, Mailbox] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """In the process that uses it: never before that is forked."""
        self._context = zmq.asyncio.Context()
        self._connect()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._main.fileno(), self._hear_main)
        try:
            yield
        finally:
            loop.remove_reader(self._main.fileno())
            self._disconnect()

    @contextlib.asynccontextmanager
    async def mailbox(self, number: int) -> AsyncIterator[Mailbox]:
        """A new session's line. However its client leaves, the worker is told. ``number``: no other session has it."""
        session = number.to_bytes(8, "big")
        self._heard_sec = self._heard_sec if self._mailboxes else time.monotonic()
        mailbox = self._mailboxes[session] = Mailbox(session, self._send)
        try:
            yield mailbox
        finally:
            del self._mailboxes[session]
            await mailbox.send(Request.CLOSE)

    def _connect(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.sndhwm = self._socket.rcvhwm = 0
        self._socket.linger = 0
        self._socket.connect(self._address)
        self.state, self._heard_sec = None, time.monotonic()
        self._tasks = [asyncio.create_task(each(self._socket)) for each in (self._read, self._watch)]

    def _disconnect(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._socket.close()

    def _send(self, parts: list[bytes]) -> Awaitable[Any]:
        return self._socket.send_multipart(parts, copy=False)

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            session, reply, payload = await socket.recv_multipart()
            if reply == Reply.ALIVE:  # the worker says more while its model hangs
                self.state, self._heard_sec = WorkerState.from_bytes(payload), time.monotonic()
            elif session in self._mailboxes:
                self._mailboxes[session].replies.put_nowait((Reply(reply), payload))

    async def _watch(self, socket: zmq.asyncio.Socket) -> None:
        while not self._mailboxes or time.monotonic() - self._heard_sec < self._patience_sec():
            await socket.send_multipart([NOBODY, Request.ALIVE, b"", b""])
            await asyncio.sleep(min(ASK_SEC, self._silence_sec / 4))
        self._main.send(self.losses)

    def _patience_sec(self) -> float:
        return self._silence_sec if self.state is not None else max(self._silence_sec, START_SEC)

    def _hear_main(self) -> None:
        loss: Loss = self._main.recv()
        self.losses += 1
        self._disconnect()
        for mailbox in self._mailboxes.values():
            mailbox.lose(str(loss), loss.close_code)
        self._connect()
