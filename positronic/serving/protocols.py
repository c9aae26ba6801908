"""Uvicorn's connections, with two habits of ours. Private names are used; ``tests/serving/test_protocols.py`` holds
uvicorn to them."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Sized
from typing import Any, ClassVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

MAX_HEAD_BYTES = 1 << 16
MAX_CONNECTIONS = min(2048, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)  # each is an open file
MAX_FRAGMENTS = 1 << 14  # of 4 KiB each they make the largest message
HANDSHAKE_SEC = 10.0  # as long as our client tries
GOODBYE_SEC = 1.0  # for a client's answer to our closing, when the server stops
STOPPING = "stopping"  # the key of the message that says so to the app
TLS_PATIENCE_SEC = 2.0  # for the rest of a frame that is too large


def is_one_too_many(connections: Sized) -> bool:
    """Whether the last of these connections is beyond ``MAX_CONNECTIONS``."""
    return len(connections) > MAX_CONNECTIONS


class PunctualHTTP(AutoHTTPProtocol):
    """Closes a connection if no request comes within ``handshake_sec``, at first or after an answer, or if a head is
    longer than ``MAX_HEAD_BYTES``.

    Uvicorn keeps a connection for ever if it was opened and left, or if it sends a header a byte at a time; and it
    keeps every header.
    """

    handshake_sec: ClassVar[float] = HANDSHAKE_SEC

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if is_one_too_many(self.connections):
            transport.abort()
        self._last_request = self.cycle
        self._head_of, self._head_bytes = self.cycle, 0
        self._look_again()

    def data_received(self, data: bytes) -> None:
        if self.cycle is not self._head_of:
            self._head_of, self._head_bytes = self.cycle, 0
        self._head_bytes += len(data)
        if self._is_answered() and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.close()
        else:
            super().data_received(data)

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look_again(self) -> None:
        self.loop.call_later(self.handshake_sec, self._close_when_idle)

    def _close_when_idle(self) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # it has become a websocket
            return
        if self._is_answered() and self.cycle is self._last_request:
            self.transport.close()
            return
        self._last_request = self.cycle
        self._look_again()


def draining(drain_sec: float) -> type[PatientWebSocket]:
    """Connections whose answers may take so long when the server stops."""

    class DrainingWebSocket(PatientWebSocket):
        pass

    DrainingWebSocket.drain_sec = drain_sec
    return DrainingWebSocket


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Lets a client whose frame is too large read why: the rest of the frame is thrown away instead of refused.

    Uvicorn closes at once; then the client's system reports a broken connection before the client has read the reason.
    A message in more than ``MAX_FRAGMENTS`` pieces counts as too large too, however small they are.

    When the server stops, the app hears it as a message with ``STOPPING``, after those that have been received, and
    has ``drain_sec`` for its answers; uvicorn would close at once.
    """

    drain_sec: ClassVar[float] = 0.0

    def shutdown(self) -> None:
        if self.close_sent or not self.handshake_complete:
            super().shutdown()
            return
        self.queue.put_nowait({"type": "websocket.receive", "bytes": b"", STOPPING: True})
        self.close_timeout = GOODBYE_SEC
        self.loop.call_later(self.drain_sec, self._shut)

    def _shut(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def handle_ping(self) -> None:
        super().handle_ping()
        if not (self.writable.is_set() or self.transport.is_closing()):
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not (self.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
            return
        self.frames = []
        self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message in more than {MAX_FRAGMENTS} pieces")
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        if self.close_sent:  # called again for every further piece
            return
        reason = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": reason.code, "reason": reason.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        half_closes = self.transport.can_write_eof()  # not with TLS: there the client waits until we close
        if half_closes:
            self.transport.write_eof()
        self.close_sent = True
        self.stop_keepalive()
        self.transport.resume_reading()
        patience_sec = self.close_timeout if half_closes else TLS_PATIENCE_SEC
        self.close_timer: Any = self.loop.call_later(patience_sec, self.transport.close)
