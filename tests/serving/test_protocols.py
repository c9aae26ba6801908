"""Connections of strangers, against uvicorn with our protocols and an app of six lines."""

import contextlib
import inspect
import socket

import pytest
from certificates import write_certificate
from plain_server import serving
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic.client.tls import trusting
from positronic.serving import protocols
from positronic.serving.handshake import encrypted
from positronic.serving.protocols import MAX_FRAGMENTS, MAX_HEAD_BYTES, PunctualHTTP
from positronic.serving.tls import check_tls

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


class BriskHTTP(PunctualHTTP):
    handshake_sec = 1.0  # long enough for an honest handshake


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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Paths of a certificate and its key."""
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_connection_that_is_not_encrypted_in_time_is_closed(certificate, said):
    """Opened and left, or the beginning of a handshake."""
    http = encrypted(check_tls(*certificate), HastyHTTP)
    with echoing(http) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as stranger:
        stranger.sendall(said)
        while stranger.recv(1 << 16):
            pass


def test_a_connection_without_a_request_is_closed_with_tls_too(certificate):
    """After the handshake there is as much time again."""
    trusted = trusting(True, certificate[0])
    with echoing(encrypted(check_tls(*certificate), BriskHTTP)) as port:
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        with trusted.wrap_socket(plain, server_hostname="localhost") as stranger:
            assert stranger.recv(1) == b""
        with connect(f"wss://localhost:{port}/", ssl=trusted) as robot:
            robot.send(b"hello")
            assert robot.recv(timeout=30) == b"hello"


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_there_are_as_many_connections_as_there_may_be(certificate, monkeypatch, is_encrypted):
    """A further one is closed at once, also while those before are not encrypted yet."""
    monkeypatch.setattr(protocols, "MAX_CONNECTIONS", 2)
    http = encrypted(check_tls(*certificate)) if is_encrypted else PunctualHTTP
    with echoing(http) as port, contextlib.ExitStack() as strangers:
        for _ in range(2):
            strangers.enter_context(socket.create_connection(("127.0.0.1", port)))
        further = strangers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        with contextlib.suppress(ConnectionResetError):
            assert further.recv(1) == b""


def test_a_server_stops_although_a_handshake_is_not_done(certificate):
    """It is cut off."""
    with contextlib.ExitStack() as later:
        with echoing(encrypted(check_tls(*certificate))) as port:
            stranger = later.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            stranger.sendall(b"\x16")
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""


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
