"""A session on the API's side, against a client and a worker that are plain objects."""

import asyncio

import pytest

from positronic.errors import PositronicError
from positronic.serving.framing import OpenPiFraming, PositronicFraming
from positronic.serving.journal import Visit
from positronic.serving.messages import Reply, Request
from positronic.serving.metrics import Metrics
from positronic.serving.peer import EndedError
from positronic.serving.session import Conversation, SessionState, wanted_checkpoint
from positronic.utils.serialization import deserialise


class Client:
    """Sends ``frames``; ``heard`` is what it was told."""

    def __init__(self, *frames):
        self.frames, self.heard = list(frames), []

    async def receive(self):
        return self.frames.pop(0)

    async def send(self, frame):
        self.heard.append(frame)

    async def end(self, frame, reason, code):
        self.heard.append((frame, reason, code))

    async def close_with(self, reason, code):
        self.heard.append((reason, code))

    async def unless_gone(self, awaited, timeout_sec=None, or_stopping=False):
        return await awaited


class Worker:
    """Gives ``replies``; ``asked`` is what it was asked."""

    def __init__(self, *replies):
        self.replies, self.asked, self.payloads = list(replies), [], []

    async def send(self, request, checkpoint="", payload=b""):
        self.asked.append(request)
        self.payloads.append(payload)

    async def receive(self):
        return self.replies.pop(0)


READY, ANSWER = (Reply.READY, b"ready"), (Reply.ANSWER, b"answer")


def test_a_session_opens_and_answers_one_by_one():
    """Status, ready, then an answer an observation."""
    client, worker = Client(b"seen", b"seen"), Worker((Reply.STATUS, b"loading It loads"), READY, ANSWER, ANSWER)
    session = Conversation(client, worker, PositronicFraming(), Visit(1, "here", Metrics()))

    async def play():
        assert await session.open("30")
        await session.answer()
        await session.answer()

    asyncio.run(play())
    status, *rest = client.heard
    assert deserialise(status) == {"status": "loading", "message": "It loads (0 s)"}
    assert rest == [b"ready", b"answer", b"answer"]
    assert worker.asked == [Request.OPEN, Request.INFER, Request.INFER]
    assert session.state is SessionState.READY


def test_a_text_frame_is_an_error_and_asks_nobody():
    """The session is ready for the next."""
    client, worker = Client("text"), Worker(READY)
    session = Conversation(client, worker, PositronicFraming(), Visit(1, "here", Metrics()))

    async def play():
        await session.open("30")
        await session.answer()

    asyncio.run(play())
    assert "binary frame" in deserialise(client.heard[-1])["error"]
    assert (session.state, worker.asked) == (SessionState.READY, [Request.OPEN])


def test_a_refused_session_is_closed():
    """And takes no observation."""
    client = Client()
    session = Conversation(
        client, Worker((Reply.REFUSED, b"no such checkpoint")), PositronicFraming(), Visit(1, "here", Metrics())
    )
    assert not asyncio.run(session.open("30"))
    ((frame, *closed),) = client.heard
    assert deserialise(frame) == {"status": "error", "error": "no such checkpoint"}
    assert (session.state, closed) == (SessionState.CLOSED, ["no such checkpoint", 1008])
    with pytest.raises(RuntimeError, match="expected it to be ready for an observation, found it closed"):
        asyncio.run(session.answer())


def test_a_client_of_openpi_hears_its_metadata_first_and_loses_its_session_by_an_error():
    """No status while it waits; an answer as it came; then the reason as text, and the end."""
    client = Client(b"seen", b"seen")
    worker = Worker((Reply.STATUS, b"loading It loads"), READY, ANSWER, (Reply.FAILED, b"no state"))
    session = Conversation(client, worker, OpenPiFraming(), Visit(1, "here", Metrics()))

    async def play():
        await session.open("30", 7)
        await session.answer()
        with pytest.raises(EndedError, match="no state"):
            await session.answer()

    asyncio.run(play())
    *frames, (reason, _, code) = client.heard
    assert (frames, reason, code) == ([b"ready", b"answer"], "no state", 1011)
    assert worker.payloads[0] == b"7 openpi"


def test_a_client_of_openpi_is_refused_by_the_reason_of_the_closing_alone():
    """It would take a frame for the metadata."""
    client = Client()
    session = Conversation(
        client, Worker((Reply.REFUSED, b"no such checkpoint")), OpenPiFraming(), Visit(1, "here", Metrics())
    )
    assert not asyncio.run(session.open("30"))
    assert client.heard == [("no such checkpoint", 1008)]


def test_an_illegal_transition_says_what_was_expected_and_found():
    """An observation before ready, a second opening, a refusal afterwards."""
    opening = Conversation(Client(b"seen"), Worker(), PositronicFraming(), Visit(1, "here", Metrics()))
    with pytest.raises(RuntimeError, match="expected it to be ready for an observation, found it opening"):
        asyncio.run(opening.answer())
    session = Conversation(Client(), Worker(READY), PositronicFraming(), Visit(1, "here", Metrics()))
    asyncio.run(session.open("30"))
    for again in (session.open("30"), session.refuse("no")):
        with pytest.raises(RuntimeError, match="expected it to be opening, found it ready"):
            asyncio.run(again)


@pytest.mark.parametrize(
    ("path", "query", "wanted"),
    [
        ("", [], ""),
        ("10", [], "10"),
        ("", [("checkpoint_id", "10")], "10"),
        ("000010", [("checkpoint_id", "10")], "10"),
    ],
)
def test_the_address_names_a_checkpoint(path, query, wanted):
    """In its path, in its query, or in both if they agree."""
    assert wanted_checkpoint(path, query) == wanted


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        ("", [("checkpont_id", "10")], "found 'checkpont_id'. Did you mean 'checkpoint_id'"),
        ("", [("checkpoint_id", "10"), ("x", "1")], "found 'x'"),
        ("", [("checkpoint_id", "")], "Expected one id"),
        ("", [("checkpoint_id", "10"), ("checkpoint_id", "20")], "Expected one id"),
        ("10", [("checkpoint_id", "20")], "path asks for checkpoint '10'"),
        ("", [("k" * 100_000, "1")], "found 'kkk"),
    ],
)
def test_an_address_that_says_anything_else_is_refused(path, query, says):
    """In a sentence of bounded length."""
    with pytest.raises(PositronicError, match=says) as refused:
        wanted_checkpoint(path, query)
    assert len(str(refused.value)) < 500
