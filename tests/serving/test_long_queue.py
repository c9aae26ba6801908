"""A server that works is never given up, however long its queue is."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from toy_server import make_checkpoint, observation, running
from toy_vendor import CHUNK

from positronic.client.async_client import AsyncInferenceClient
from positronic.client.client import InferenceClient

FORWARD_SEC, PING_SEC = 0.5, 2.0
ROBOTS = 6  # of each kind of client


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory):
    """One forward pass after another, each for a single robot."""
    folder = tmp_path_factory.mktemp("queue") / "slow"
    make_checkpoint(folder, 10, forward_sec=FORWARD_SEC)
    with running(folder, max_batch=1) as (port, _):
        yield port


def test_nobody_is_lost_in_a_queue_of_three_silences(slow_server, monkeypatch):
    """Twelve robots, of both clients: the last one's answer takes three times as long as a server may be silent to a
    ping. With 20 s between pings that is a queue of 60 s and more."""
    monkeypatch.setattr("positronic.client.dialling.PING_SEC", PING_SEC)

    def ask():
        with InferenceClient("127.0.0.1", slow_server).session() as session:
            return len(session.infer(observation()))

    async def ask_too():
        async with await AsyncInferenceClient("127.0.0.1", slow_server).session() as session:
            return len(await session.infer(observation()))

    async def ask_all():
        return await asyncio.gather(*(ask_too() for _ in range(ROBOTS)))

    assert 2 * ROBOTS * FORWARD_SEC >= 3 * PING_SEC
    with ThreadPoolExecutor(ROBOTS) as threads:
        answers = [threads.submit(ask) for _ in range(ROBOTS)]
        found = asyncio.run(ask_all()) + [answer.result() for answer in answers]
    assert found == [CHUNK] * 2 * ROBOTS
