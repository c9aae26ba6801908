"""What a session notices of its client while it waits for something else: on real connections, with an app of a few
lines."""

import asyncio
import contextlib
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import WebSocket
from plain_server import serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic.serving import session
from positronic.serving.framing import PositronicFraming
from positronic.serving.journal import Visit
from positronic.serving.link import Mailbox
from positronic.serving.metrics import Metrics
from positronic.serving.peer import MAX_EARLY_BYTES, MAX_EARLY_FRAMES, STOPS, TOO_EARLY, EndedError, GoneError, Peer
from positronic.serving.protocols import PunctualHTTP
from positronic.utils.serialization import MAX_FRAME_BYTES, deserialise

GONE = "gone"


class Waiting:
    """An app whose sessions wait for ``go``, then echo. ``ends``: why each has ended."""

    def __init__(self):
        self.go, self.ends = threading.Event(), queue.Queue()

    async def __call__(self, scope, receive, send):
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        peer = Peer(websocket)
        try:
            await self.wait(peer)
            while True:
                await peer.send(await peer.receive())
        except GoneError:
            self.ends.put(GONE)
        except EndedError as ended:
            await peer.close_with(ended.reason, ended.code)
            self.ends.put(ended.reason)
        finally:
            peer.close()

    async def wait(self, peer):
        await peer.send(b"waiting")
        await peer.unless_gone(self.released(), or_stopping=True)

    async def released(self):
        while not self.go.is_set():
            await asyncio.sleep(0.01)


class Finding(Waiting):
    """An app whose sessions look for a checkpoint, in a thread that waits for ``go``."""

    def __init__(self):
        super().__init__()
        self.pool = ThreadPoolExecutor(1)

    async def wait(self, peer):
        talk = session.Conversation(peer, Mailbox(b"", None), PositronicFraming(), Visit(1, "here", Metrics()))
        await peer.send(await talk.find(asyncio.get_running_loop().run_in_executor(self.pool, self.look)))

    def look(self):
        self.go.wait()
        return b"found"


def running(app):
    return serving(app, PunctualHTTP, ws_max_size=MAX_FRAME_BYTES)


def dial(port):
    return connect(f"ws://127.0.0.1:{port}/", compression=None, max_size=None)


@pytest.mark.parametrize("frames", [0, 1, 2, MAX_EARLY_FRAMES])
def test_a_client_that_leaves_is_noticed_whatever_it_has_sent_before(frames):
    """While the session waits for something that does not come."""
    app = Waiting()
    with running(app) as port:
        with dial(port) as robot:
            robot.recv(timeout=30)
            for _ in range(frames):
                robot.send(b"early")
        assert app.ends.get(timeout=30) == GONE


@pytest.mark.parametrize("frames", [1, MAX_EARLY_FRAMES])
def test_a_session_that_waits_hears_that_the_server_stops_whatever_its_client_has_sent(frames):
    """And its client is told so."""
    app = Waiting()
    with contextlib.ExitStack() as connected:
        with running(app) as port:
            robot = connected.enter_context(dial(port))
            robot.recv(timeout=30)
            for _ in range(frames):
                robot.send(b"early")
            assert robot.ping().wait(timeout=30)  # they have been read
        assert app.ends.get(timeout=30) == STOPS
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(timeout=30)
        assert closed.value.rcvd.code == 1012


def test_frames_that_come_early_are_taken_in_their_turn():
    """All of them, in their order, and those after them."""
    app, frames = Waiting(), [bytes([number]) for number in range(MAX_EARLY_FRAMES)]
    with running(app) as port, dial(port) as robot:
        robot.recv(timeout=30)
        for frame in frames:
            robot.send(frame)
        assert robot.ping().wait(timeout=30)
        app.go.set()
        assert [robot.recv(timeout=30) for _ in frames] == frames
        robot.send(b"later")
        assert robot.recv(timeout=30) == b"later"


@pytest.mark.parametrize(
    "frames", [[b""] * (MAX_EARLY_FRAMES + 1), [bytes(MAX_EARLY_BYTES // 2), bytes(MAX_EARLY_BYTES // 2 + 1)]]
)
def test_more_than_may_come_early_ends_the_session(frames):
    """Too many, or too large: with a sentence and code 1008."""
    app = Waiting()
    with running(app) as port, dial(port) as robot:
        robot.recv(timeout=30)
        for frame in frames:
            robot.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(timeout=30)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, TOO_EARLY)
        assert app.ends.get(timeout=30) == TOO_EARLY


def test_who_waits_for_a_slow_folder_is_told_so_until_it_is_listed(monkeypatch):
    """As often as while a checkpoint loads."""
    monkeypatch.setattr(session, "STATUS_EVERY_SEC", 0.01)
    app = Finding()
    with running(app) as port, dial(port) as robot:
        for _ in range(2):
            assert deserialise(robot.recv(timeout=30))["status"] == "waiting"
        app.go.set()
        while (heard := robot.recv(timeout=30)) != b"found":
            assert deserialise(heard)["status"] == "waiting"


def test_who_leaves_while_a_slow_folder_is_listed_is_noticed(monkeypatch):
    """Though it spoke before its turn, and the listing goes on."""
    monkeypatch.setattr(session, "STATUS_EVERY_SEC", 0.01)
    app = Finding()
    with running(app) as port:
        with dial(port) as robot:
            robot.recv(timeout=30)
            robot.send(b"early")
        assert app.ends.get(timeout=30) == GONE
        app.go.set()


def test_a_bucket_that_does_not_answer_in_its_own_time_is_an_error():
    """It is not taken for the time after which the client is told that it waits."""

    async def look():
        finding = asyncio.get_running_loop().create_future()
        finding.set_exception(TimeoutError("the bucket"))
        talk = session.Conversation(Silent(), Mailbox(b"", None), PositronicFraming(), Visit(1, "here", Metrics()))
        await talk.find(finding)

    with pytest.raises(TimeoutError, match="the bucket"):
        asyncio.run(look())


class Silent:
    """A client that stays and says nothing."""

    async def unless_gone(self, awaited, timeout_sec=None, or_stopping=False):
        return await awaited
