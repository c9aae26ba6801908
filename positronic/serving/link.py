"""The API process's lines to the inference worker, and to the main process.

The worker is asked for a sign of life. It gives none while a forward pass runs, so one that gives none for very long
while sessions are open has a model that hangs, or was stopped: then the main process is told, which kills it. When a
worker has gone, the main process says so and whether there will be a new one. The sessions of the old one are told and
end; what they had sent is forgotten with the socket.

The socket is a plain one, whose descriptor the event loop watches: zmq.asyncio costs a lone robot 0.04 ms of this
process's CPU an observation, a tenth of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import zmq

from positronic.serving.messages import Reply, Request, Session
from positronic.serving.recorder import WorkerState
from positronic.serving.supervision import Loss

ASK_SEC = 1.0
START_SEC = 60.0  # that a new worker may take until its first sign of life
NOBODY: Session = b""


class Mailbox:
    """One session's line to the worker. One request is outstanding at a time."""

    def __init__(self, session: Session, send: Callable[[list[bytes]], None]) -> None:
        self.session = session
        self.replies: asyncio.Queue[tuple[Reply, bytes]] = asyncio.Queue()
        self.on_lost: Callable[[str, int], None] = lambda reason, code: None  # beside the reply
        self._send = send

    def send(self, request: Request, checkpoint: str = "", payload: bytes = b"") -> None:
        self._send([self.session, request, checkpoint.encode(), payload])

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
        self._context = zmq.Context()
        self._connect()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._main.fileno(), self._hear_main)
        try:
            yield
        finally:
            loop.remove_reader(self._main.fileno())
            self._disconnect()

    @contextlib.contextmanager
    def mailbox(self, number: int) -> Iterator[Mailbox]:
        """A new session's line. However its client leaves, the worker is told. ``number``: no other session has it."""
        session = number.to_bytes(8, "big")
        self._heard_sec = self._heard_sec if self._mailboxes else time.monotonic()
        mailbox = self._mailboxes[session] = Mailbox(session, self._send)
        try:
            yield mailbox
        finally:
            del self._mailboxes[session]
            mailbox.send(Request.CLOSE)

    def _connect(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.sndhwm = self._socket.rcvhwm = 0
        self._socket.linger = 0
        self._socket.connect(self._address)
        self.state, self._heard_sec = None, time.monotonic()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fd, self._take_up)
        self._watching = loop.create_task(self._watch())

    def _disconnect(self) -> None:
        self._watching.cancel()
        asyncio.get_running_loop().remove_reader(self._socket.fd)
        self._socket.close()

    def _send(self, parts: list[bytes]) -> None:
        self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)  # there is no limit at which it would have to wait
        asyncio.get_running_loop().call_soon(self._take_up)

    def _take_up(self) -> None:
        """Hear all that has come. The descriptor tells of it once, and not at all if it came during a sending."""
        while not self._socket.closed and self._socket.events & zmq.POLLIN:
            session, reply, payload = self._socket.recv_multipart(zmq.NOBLOCK)
            if reply == Reply.ALIVE:  # the worker says more while its model hangs
                self.state, self._heard_sec = WorkerState.from_bytes(payload), time.monotonic()
            elif session in self._mailboxes:
                self._mailboxes[session].replies.put_nowait((Reply(reply), payload))

    async def _watch(self) -> None:
        while not self._mailboxes or time.monotonic() - self._heard_sec < self._patience_sec():
            self._send([NOBODY, Request.ALIVE, b"", b""])
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
