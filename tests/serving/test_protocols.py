"""Connections of strangers, against uvicorn with our protocols and an app of six lines."""

import contextlib
import inspect
import socket

import pytest
from plain_server import serving
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic.serving.protocols import MAX_FRAGMENTS, MAX_HEAD_BYTES, PunctualHTTP

LIMIT = 1 << 16
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def app(scope, receive, send):
    """Accepts websockets and echoes; answers every HTTP request."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class HastyHTTP(PunctualHTTP):
    handshake_sec = 0.1


def echoing(http):
    return serving(app, http, ws_max_size=LIMIT)


@pytest.fixture(scope="module")
def port():
    with echoing(HastyHTTP) as port:
        yield port


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"])
def test_a_connection_without_a_whole_request_is_closed(port, said):
    """Opened and left, half a request, or half a second one."""
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.settimeout(30)
        stranger.sendall(said)
        while stranger.recv(1 << 16):
            pass


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_head_without_end_is_closed(first):
    """The first one, or a later one; it is not kept in memory until the time is over."""
    sent = 0
    with echoing(PunctualHTTP) as port, socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(first + b"GET / HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < MAX_HEAD_BYTES * 1000:
                stranger.sendall(b"x: " + b"y" * 10_000 + b"\r\n")
                sent += 10_000
    assert sent < MAX_HEAD_BYTES * 1000


def test_a_websocket_is_not_closed_for_being_silent(port):
    """The time is for the handshake alone."""
    with connect(f"ws://127.0.0.1:{port}/") as robot, socket.create_connection(("127.0.0.1", port)) as later:
        later.settimeout(30)
        assert later.recv(1) == b""  # the time has passed for one that came after it
        robot.send(b"hello")
        assert robot.recv(timeout=30) == b"hello"


def test_who_sends_too_large_a_frame_reads_why(port):
    """The close code and reason arrive although the client still sends."""
    with connect(f"ws://127.0.0.1:{port}/", max_size=None, compression=None) as robot:
        with contextlib.suppress(ConnectionClosed):
            robot.send(bytes(LIMIT * 300))
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(timeout=30)
    assert closed.value.rcvd.code == 1009
    assert str(LIMIT) in closed.value.rcvd.reason


def test_a_message_in_endless_pieces_is_too_large(port):
    """Empty ones, so that its size never grows."""
    with connect(f"ws://127.0.0.1:{port}/", compression=None) as robot:
        with contextlib.suppress(ConnectionClosed):
            robot.send([b""] * (MAX_FRAGMENTS + 2))
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(timeout=60)
    assert (closed.value.rcvd.code, "pieces" in closed.value.rcvd.reason) == (1009, True)


def test_pings_of_a_client_that_reads_nothing_are_not_taken_without_end(port):
    """Each is answered, and the answers would fill the server's memory."""
    ping, sent = b"\x89\xfd" + bytes(4 + 125), 0
    with socket.create_connection(("127.0.0.1", port), timeout=2) as robot:
        robot.sendall(UPGRADE)
        assert b"101" in robot.recv(1 << 12)
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 28:
                sent += robot.send(ping * 1000)
    assert sent < 1 << 28


def test_uvicorn_has_what_we_override():
    """A new version must pass this first."""
    calls = inspect.getsource(WebSocketsSansIOProtocol.data_received)
    assert "self.handle_parser_exception()" in calls
    source = inspect.getsource(PunctualHTTP.__mro__[1])
    assert "self.cycle: RequestResponseCycle = None" in source
    assert "self.loop =" in source
    assert "response_complete" in source
