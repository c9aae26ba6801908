"""A server that opens no session now: whether the client comes back, both clients alike."""

import asyncio
import contextlib
import itertools

import pytest
from scripted_server import READY, serving

from positronic.client.async_client import AsyncInferenceClient
from positronic.client.client import InferenceClient
from positronic.client.dialling import Patience, Server
from positronic.client.protocol import NotYetError, PostponedError
from positronic.client.session import ConnectionLost, SessionRefused
from positronic.utils.serialization import serialise

FULL = {"status": "error", "error": "This server has 1 sessions open."}
RESTARTS, TRY_AGAIN, POLICY_VIOLATION, SERVER_FAILED = 1012, 1013, 1008, 1011


def open_in_a_thread(port, **options):
    with InferenceClient("127.0.0.1", port, **options).session() as session:
        return session.meta


def open_on_asyncio(port, **options):
    async def opened():
        async with await AsyncInferenceClient("127.0.0.1", port, **options).session() as session:
            return session.meta

    return asyncio.run(opened())


both = pytest.mark.parametrize("open_session", [open_in_a_thread, open_on_asyncio])


class Refusing:
    """Refuses the first sessions, each with its close code, and has the others."""

    def __init__(self, *codes):
        self.codes, self.sessions = codes, 0

    def __call__(self, connection):
        self.sessions += 1
        if self.sessions > len(self.codes):
            connection.send(serialise(READY))
            return
        connection.send(serialise({"status": "loading", "message": "checkpoint 30"}))
        connection.send(serialise(FULL))
        connection.close(self.codes[self.sessions - 1])


@both
@pytest.mark.parametrize("codes", [[TRY_AGAIN], [RESTARTS], [TRY_AGAIN, RESTARTS]])
def test_a_server_that_says_come_back_later_is_asked_again(open_session, codes):
    """Full, or between two workers; what it says is told meanwhile."""
    told, server = [], Refusing(*codes)
    with serving(server) as port:
        meta = open_session(port, connect_timeout_sec=60, on_status=lambda *status: told.append(status))
    assert meta == READY["meta"]
    assert server.sessions == len(codes) + 1
    assert [FULL["error"] in message for status, message in told if status == "connecting"] == [True] * len(codes)


@both
@pytest.mark.parametrize("code", [POLICY_VIOLATION, SERVER_FAILED, 1000])
def test_any_other_refusal_is_final(open_session, code):
    """It is asked once."""
    server = Refusing(code)
    with serving(server) as port, pytest.raises(SessionRefused, match="1 sessions open"):
        open_session(port, connect_timeout_sec=60)
    assert server.sessions == 1


@both
def test_a_refusal_without_an_end_is_final(open_session, monkeypatch):
    """A server that leaves the connection open is not waited for."""
    for client in ("session", "async_client"):
        monkeypatch.setattr(f"positronic.client.{client}.CLOSE_FRAME_SEC", 0.05)

    def handler(connection):
        connection.send(serialise(FULL))
        with contextlib.suppress(Exception):
            connection.recv()

    with serving(handler) as port, pytest.raises(SessionRefused, match="1 sessions open"):
        open_session(port, connect_timeout_sec=60)


@both
def test_a_server_that_stays_full_is_given_up_with_its_own_words(open_session):
    """It is there, so nobody is told to start one."""
    server = Refusing(*[TRY_AGAIN] * 100)
    with serving(server) as port, pytest.raises(ConnectionLost, match=r"It said last: This server has 1") as lost:
        open_session(port, connect_timeout_sec=0.5)
    assert server.sessions > 1
    assert f"127.0.0.1:{port} opened no session" in str(lost.value)
    assert "stage=serve" not in str(lost.value)


def test_the_last_words_of_a_server_that_goes_are_told(monkeypatch):
    """They say why there is none."""
    monkeypatch.setattr("positronic.client.dialling.MAX_DELAY_SEC", 1000.0)
    patience = Patience(Server("gpu-box", 8000, None, False, None, None), 60.0, lambda status, message: None)
    patience.delay_sec(PostponedError("The server stops; connect again later."))
    with pytest.raises(ConnectionLost, match="gpu-box:8000 has gone: Connection refused.*The server stops; connect"):
        list(map(patience.delay_sec, itertools.repeat(NotYetError("Connection refused"))))
