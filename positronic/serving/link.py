"""The API process's line to the inference worker.

While sessions are open the worker is asked for a sign of life. It gives none while a forward pass runs, so one that
gives none for very long has a model that hangs, or was stopped: then the sessions are told, and this process ends.
The main process sees that and ends the worker too; a supervisor can start anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import zmq
import zmq.asyncio

from positronic.serving.messages import Reply, Request, Session

logger = logging.getLogger(__name__)

WORKER_SILENT = 71  # the API process's exit code
ASK_SEC = 5.0
FLUSH_SEC = 1.0  # for the sessions to be told
NOBODY: Session = b""


class Mailbox:
    """One session's line to the worker. One request is outstanding at a time."""

    def __init__(self, session: Session, send: Callable[[list[bytes]], Awaitable[Any]]) -> None:
        self.session = session
        self.replies: asyncio.Queue[tuple[Reply, bytes]] = asyncio.Queue()
        self._send = send

    async def send(self, request: Request, checkpoint: str = "", payload: bytes = b"") -> None:
        await self._send([self.session, request, checkpoint.encode(), payload])

    async def receive(self) -> tuple[Reply, bytes]:
        return await self.replies.get()


class WorkerLink:
    """The API process's end of the socket at ``address``. Opened on first use: never before the process is forked.

    ``silence_sec``: how long the worker may give no sign of life while sessions are open.
    """

    def __init__(self, address: str, silence_sec: float) -> None:
        self._address, self._silence_sec = address, silence_sec
        self._socket: zmq.asyncio.Socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._heard_sec = 0.0
        self._mailboxes: dict[Session, Mailbox] = {}
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def mailbox(self) -> AsyncIterator[Mailbox]:
        """A new session's line. However its client leaves, the worker is told."""
        socket = self._connected()
        session = next(self._numbers).to_bytes(8, "big")
        self._heard_sec = self._heard_sec if self._mailboxes else time.monotonic()
        mailbox = self._mailboxes[session] = Mailbox(session, partial(socket.send_multipart, copy=False))
        try:
            yield mailbox
        finally:
            del self._mailboxes[session]
            await mailbox.send(Request.CLOSE)

    def _connected(self) -> zmq.asyncio.Socket:
        if self._socket is None:
            self._socket = zmq.asyncio.Context().socket(zmq.DEALER)
            self._socket.sndhwm = self._socket.rcvhwm = 0
            self._socket.linger = 0
            self._socket.connect(self._address)
            self._tasks = [asyncio.create_task(each(self._socket)) for each in (self._read, self._watch)]
        return self._socket

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            session, reply, payload = await socket.recv_multipart()
            if reply == Reply.ALIVE:  # the worker says more while its model hangs
                self._heard_sec = time.monotonic()
            if session in self._mailboxes:
                self._mailboxes[session].replies.put_nowait((Reply(reply), payload))

    async def _watch(self, socket: zmq.asyncio.Socket) -> None:
        while not self._mailboxes or time.monotonic() - self._heard_sec < self._silence_sec:
            if self._mailboxes:
                await socket.send_multipart([NOBODY, Request.ALIVE, b"", b""])
            await asyncio.sleep(min(ASK_SEC, self._silence_sec / 4))
        self._give_up()

    def _give_up(self) -> None:
        reason = (
            f"The model has given no sign of life for {self._silence_sec:g} s. The server ends; connect again later."
        )
        logger.error("%s", reason)
        for mailbox in self._mailboxes.values():
            mailbox.replies.put_nowait((Reply.LOST, reason.encode()))
        asyncio.get_running_loop().call_later(FLUSH_SEC, os._exit, WORKER_SILENT)
