"""A closed loop of clients that cost next to nothing, so that what is measured is the server.

Each client has one request under way and sends the next as soon as the answer is there. The request's bytes are made
once, websocket framing included; answers are counted and not decoded. All clients live in one thread.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

PIECE = 1 << 18
SETTLE = 3  # a client's first answers are not counted: the server may still be warming up
SILENCE_SEC = 60.0


@dataclass
class Answers:
    """What the clients of one run got. ``latencies_ms``: of the counted answers; ``dropped``: clients that lost their
    connection or were answered with an error."""

    latencies_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    dropped: int = 0

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else float("nan")


Complete = Callable[[bytearray], int]
"""How many bytes of a buffer are one whole answer; 0 while there are too few."""


class LostError(Exception):
    """The server has closed a connection."""


class Client:
    """One connection. ``request``: what is sent each time. ``complete``: where an answer ends."""

    def __init__(self, connection: socket.socket, request: bytes, complete: Complete, error: bytes) -> None:
        self.connection, self._request, self._complete, self._error = connection, request, complete, error
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unsent = memoryview(b"")
        self._answer = bytearray()
        self._asked_sec = 0.0
        self.answered = 0

    def ask(self) -> None:
        self._asked_sec = time.perf_counter()
        self._unsent = memoryview(self._request)
        self.write()

    def write(self) -> bool:
        """Send what the connection takes; whether something is left."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        return bool(self._unsent)

    def read(self) -> float | None:
        """Milliseconds since the question, once the answer is whole. Raises LostError."""
        try:
            piece = self.connection.recv(PIECE)
        except BlockingIOError:
            return None
        if not piece:
            raise LostError("closed")
        self._answer += piece
        size = self._complete(self._answer)
        if not size:
            return None
        if self._error in self._answer[:64]:
            raise LostError(bytes(self._answer[:300]))
        del self._answer[:size]
        self.answered += 1
        return (time.perf_counter() - self._asked_sec) * 1000


def closed_loop(clients: list[Client], seconds: float) -> Answers:
    """Let the clients ask for ``seconds``, then hear the answers that are under way."""
    answers = Answers()
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.connection, selectors.EVENT_READ, client)
        begin = time.perf_counter()
        for client in clients:
            _ask(selector, client)
        under_way, counted_from = len(clients), None
        while under_way and (ready := selector.select(SILENCE_SEC)):
            for key, events in ready:
                client = key.data
                if events & selectors.EVENT_WRITE and not client.write():
                    selector.modify(client.connection, selectors.EVENT_READ, client)
                if not events & selectors.EVENT_READ:
                    continue
                try:
                    taken_ms = client.read()
                except (LostError, OSError):
                    answers.dropped += 1
                    under_way -= 1
                    selector.unregister(client.connection)
                    continue
                if taken_ms is None:
                    continue
                now = time.perf_counter()
                if client.answered > SETTLE:
                    counted_from = counted_from or now
                    answers.latencies_ms.append(taken_ms)
                    answers.seconds = now - counted_from
                if now - begin < seconds:
                    _ask(selector, client)
                else:
                    under_way -= 1
        answers.dropped += under_way
    return answers


def _ask(selector: selectors.BaseSelector, client: Client) -> None:
    client.ask()
    if client.write():
        selector.modify(client.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, client)


def websocket_client(port: int, path: str, message: Callable[[bytes], bytes], error: bytes, ready: bytes) -> Client:
    """Connected, and past the frames that come before the one that holds ``ready``. ``message``: what is sent, by that
    frame."""
    connection = socket.create_connection(("127.0.0.1", port), SILENCE_SEC)
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{path}"), max_size=None)
    protocol.send_request(protocol.connect())
    _flush(protocol, connection)
    while True:
        piece = connection.recv(PIECE)
        if not piece:
            raise LostError(f"{path} on port {port}: no session")
        protocol.receive_data(piece)
        _flush(protocol, connection)
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        frames = [bytes(each.data) for each in protocol.events_received() if isinstance(each, Frame)]
        if any(ready in frame for frame in frames):
            break
    request = Frame(Opcode.BINARY, message(frames[-1])).serialize(mask=True)
    return Client(connection, request, _whole_frame, error)


def _flush(protocol: ClientProtocol, connection: socket.socket) -> None:
    for data in protocol.data_to_send():
        connection.sendall(data)


def _whole_frame(buffer: bytearray) -> int:
    """A server's unmasked frame; RFC 6455, section 5.2."""
    if len(buffer) < 2:
        return 0
    length, head = buffer[1] & 0x7F, 2
    if length >= 126:
        head += 2 if length == 126 else 8
        length = int.from_bytes(buffer[2:head])
    return head + length if len(buffer) >= head + length else 0


def http_client(port: int, path: str, body: bytes, content_type: str) -> Client:
    """A connection that posts ``body`` again and again."""
    connection = socket.create_connection(("127.0.0.1", port), SILENCE_SEC)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return Client(connection, head.encode() + b"\r\n" + body, _whole_response, b"HTTP/1.1 4")


def _whole_response(buffer: bytearray) -> int:
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = bytes(buffer[:end]).lower()
    _, _, rest = head.partition(b"content-length:")
    size = end + 4 + int(rest.split(b"\r\n", 1)[0])
    return size if len(buffer) >= size else 0
