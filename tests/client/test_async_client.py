"""The client on asyncio: the same conversation, carried by another event loop."""

import asyncio
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from scripted_server import READY, STEP, free_port, script, serving

from positronic import keys
from positronic.client.async_client import AsyncInferenceClient
from positronic.client.client import InferenceClient
from positronic.client.session import ConnectionLost, ConnectionState, InferenceError, SessionRefused
from positronic.errors import PositronicError
from positronic.utils.serialization import deserialise, serialise

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def client(port, **options):
    return AsyncInferenceClient("127.0.0.1", port, **{"connect_timeout_sec": 0.0, **options})


def test_a_session_reads_its_meta_and_chunks_and_goes_on_after_an_error():
    """Statuses are told, an error leaves the session open."""
    told = []
    loading = [{"status": "loading", "message": "checkpoint 30"}, READY]

    async def talk(port):
        async with await client(port, on_status=lambda *each: told.append(each)).session() as session:
            assert session.meta == READY["meta"]
            (step,) = await session.infer({"grip": 0.0})
            with pytest.raises(InferenceError, match="no grip"):
                await session.infer({})
            assert len(await session.infer({})) == 2
            return step

    answers = [{"result": [STEP]}, {"error": "no grip"}, {"result": [STEP, STEP]}]
    with serving(script(*answers, opening=loading)) as port:
        step = asyncio.run(talk(port))
    np.testing.assert_array_equal(step.command.positions, np.arange(7.0))
    assert told == [("loading", "checkpoint 30"), ("ready", "")]


def test_several_robots_wait_in_one_thread():
    """Ten sessions at once: the server answers when all ten have asked."""
    asked = threading.Barrier(10)

    def handler(connection):
        connection.send(serialise(READY))
        grip = deserialise(connection.recv())["grip"]
        asked.wait(30)
        connection.send(serialise({"result": [{**STEP, "target_grip": grip}]}))
        connection.recv()

    async def ask(port, grip):
        async with await client(port).session() as session:
            (step,) = await session.infer({"grip": grip})
            return step.target_grip

    async def ask_all(port):
        return await asyncio.gather(*(ask(port, number / 10) for number in range(10)))

    with serving(handler) as port:
        assert asyncio.run(ask_all(port)) == [number / 10 for number in range(10)]


def test_a_task_that_is_cancelled_closes_its_session():
    """The late answer is for nobody, and a session that would take it for the next one is no more."""
    may_answer = threading.Event()

    def handler(connection):
        connection.send(serialise(READY))
        connection.recv()
        may_answer.wait(30)

    async def talk(port):
        session = await client(port).session()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.infer({})
        may_answer.set()
        assert session.state is ConnectionState.CLOSED
        with pytest.raises(PositronicError, match="expected to be ready, found it closed"):
            await session.infer({})
        await session.close()

    with serving(handler) as port:
        asyncio.run(talk(port))


def test_a_server_that_goes_raises_connection_lost():
    """And the session is closed."""

    def handler(connection):
        connection.send(serialise(READY))
        connection.recv()

    async def talk(port):
        async with await client(port).session() as session:
            with pytest.raises(ConnectionLost):
                await session.infer({})
            assert session.state is ConnectionState.CLOSED

    with serving(handler) as port:
        asyncio.run(talk(port))


def test_nobody_there_and_a_refusal_are_said_as_the_other_client_says_them():
    """One set of sentences."""
    port = free_port()
    with pytest.raises(ConnectionLost) as lost:
        InferenceClient("127.0.0.1", port, connect_timeout_sec=0.0).session()
    with pytest.raises(ConnectionLost) as lost_too:
        asyncio.run(client(port).session())
    assert str(lost.value) == str(lost_too.value)
    opening = [{"status": "error", "error": "Unknown checkpoint 7."}]
    with serving(script(opening=opening)) as port, pytest.raises(SessionRefused, match="Unknown checkpoint 7"):
        asyncio.run(client(port).session("7"))


def test_models_and_goodbye_of_newer_servers():
    """The model list comes over HTTP, and a server of version 3 is told that the client leaves."""
    left = []

    def handler(connection):
        connection.send(serialise({**READY, "protocol_version": 3, "session_id": "5f0c"}))
        left.append(deserialise(connection.recv()))
        connection.send(serialise(left[0]))

    def answer(connection, request):
        return connection.respond(200, '{"models": [10]}') if request.path == keys.ROUTE_MODELS else None

    async def talk(port):
        found = await client(port).models()
        session = await client(port).session()
        await session.close()
        await session.close()
        return found

    with serving(handler, process_request=answer) as port:
        assert asyncio.run(talk(port)) == ["10"]
    assert left == [{"session_id": "5f0c", "end_session": True}]


def test_the_pages_example_runs():
    """As it stands on the page, with another address: two robots, two chunks, in order."""
    (example,) = re.findall(r"```python\n(import asyncio\n.*?)```", PAGE.read_text(), re.DOTALL)

    def handler(connection):
        connection.send(serialise(READY))
        grip = deserialise(connection.recv())["grip"]
        connection.send(serialise({"result": [{**STEP, "target_grip": grip}]}))

    with serving(handler) as port:
        names = {"observations": [{"grip": 0.0}, {"grip": 1.0}]}
        exec(example.replace('"gpu-box", 8000', f'"127.0.0.1", {port}'), names)
    assert [chunk[0].target_grip for chunk in names["chunks"]] == [0.0, 1.0]
