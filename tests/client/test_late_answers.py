"""One question at a time: a late answer is never taken for the next one."""

import threading

import numpy as np
import pytest
from scripted_server import READY, STEP, script, serving

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import ConnectionLost, ConnectionState, InferenceError
from positronic.errors import PositronicError
from positronic.utils.serialization import deserialise, serialise


def client(port, **options):
    return InferenceClient("127.0.0.1", port, **{"connect_timeout_sec": 0.0, **options})


@pytest.fixture
def late():
    """A server that answers an observation when ``may_answer`` is set, and sends one more answer; and this event, and
    one that is set when an observation is there."""
    asked, may_answer = threading.Event(), threading.Event()

    def handler(connection):
        connection.send(serialise(READY))
        connection.recv()
        asked.set()
        may_answer.wait(30)
        for answer in ([STEP], [STEP, STEP]):
            connection.send(serialise({"result": answer}))

    with serving(handler) as port:
        yield port, may_answer, asked
        may_answer.set()


def require_closed(session):
    assert session.state is ConnectionState.CLOSED
    with pytest.raises(PositronicError, match=r"expected to be ready, found it closed\. Open a new session"):
        session.infer({})


def test_time_that_is_up_closes_the_session(late):
    """The answer that comes then is for nobody."""
    port, _, _ = late  # it answers when this test is over
    session = client(port).session()
    with pytest.raises(ConnectionLost, match="no answer within 0.05 s"):
        session.infer({}, timeout_sec=0.05)
    require_closed(session)


def test_ctrl_c_while_waiting_closes_the_session(late, monkeypatch):
    """As it does not wait for the answer."""
    port, may_answer, _ = late
    session = client(port).session()

    def pressed(timeout=None):
        may_answer.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(session._connection, "recv", pressed)
    with pytest.raises(KeyboardInterrupt):
        session.infer({})
    require_closed(session)


def test_an_answer_in_time_leaves_the_session_open():
    """A limit changes nothing otherwise, and neither does an error."""
    with serving(script({"error": "no"}, {"result": [STEP]})) as port, client(port).session() as session:
        with pytest.raises(InferenceError):
            session.infer({}, timeout_sec=30)
        assert len(session.infer({}, timeout_sec=30)) == 1


def test_a_second_thread_is_refused_while_an_answer_is_waited_for(late):
    """Its observation would get the first one's answer."""
    port, may_answer, asked = late
    with client(port).session() as session:
        first = threading.Thread(target=session.infer, args=[{}])
        first.start()
        assert asked.wait(30)
        with pytest.raises(PositronicError, match="found it waiting for an answer"):
            session.infer({})
        may_answer.set()
        first.join()


def test_jpeg_without_pillow_and_an_impossible_quality_are_refused(monkeypatch):
    """When the client is made, not when the robot stands there."""
    with pytest.raises(PositronicError, match="expected a number from 1 to 100"):
        client(1, jpeg_quality=0)
    monkeypatch.setattr("positronic.client.images._has_pillow", lambda: False)
    with pytest.raises(PositronicError, match="policy.jpeg_quality=90 needs Pillow where the robot is"):
        client(1, jpeg_quality=90)


def test_pictures_are_shrunk_and_then_compressed():
    """Top-level RGB pictures alone; they take a fraction of the bytes."""
    seen = []

    def handler(connection):
        connection.send(serialise({"status": "ready", "meta": {"image_sizes": [64, 64]}}))
        seen.append(connection.recv())
        connection.send(serialise({"result": []}))

    depth = np.zeros((48, 64), np.uint8)
    with serving(handler) as port, client(port, jpeg_quality=80).session() as session:
        session.infer({keys.IMAGE_WRIST: np.full((240, 320, 3), 90, np.uint8), "image.depth": depth})
    arrived = deserialise(seen[0])
    assert arrived[keys.IMAGE_WRIST].shape == (48, 64, 3)
    np.testing.assert_array_equal(arrived["image.depth"], depth)
    assert len(seen[0]) < depth.nbytes + 48 * 64
