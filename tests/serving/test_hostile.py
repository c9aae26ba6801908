"""Thousands of strangers' frames: the server lives, and an honest session beside them is answered."""

import contextlib
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_server import make_checkpoint, make_recipe, observation, running
from toy_vendor import CHUNK, ToyModel
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.serving.policy import ServedPolicy
from positronic.serving.scheduler import answer_frames
from positronic.utils.serialization import deserialise, serialise

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
from bench.hostile import STRANGE, heavy_frames, hostile_frame

HONEST = serialise(observation())
FRAMES = 1200  # scripts/attack_serving.py sends more, and measures


def judged(frame):
    """The one frame that must answer it: a result or a short error."""
    (answer,) = answer_frames(ServedPolicy(make_recipe(), ToyModel(), {}), [frame])
    message = deserialise(answer)
    assert set(message) in ({"result"}, {"error"})
    assert "result" in message or len(answer) < 4100
    return message


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 40))
def test_a_spoiled_observation_has_one_answer(number):
    """One thing wrong somewhere in it, bytes flipped, cut, noise."""
    judged(hostile_frame(number * 200, HONEST))  # the heavy ones come once, below


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary()
MARKED = st.sampled_from(STRANGE)
ANY = st.recursive(
    PLAIN | MARKED, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(observation())), ANY))
def test_any_value_under_a_robots_key_has_one_answer(values):
    """Numbers, texts, lists, maps and broken arrays where others belong."""
    judged(msgpack.packb(msgpack.unpackb(HONEST) | values))


@pytest.mark.parametrize("number", range(len(heavy_frames())))
def test_a_frame_that_asks_for_too_much_has_a_short_answer(number):
    """What once stopped every robot for seconds."""
    assert "error" in judged(heavy_frames()[number])


def attack(port, numbers):
    """Send frames on one session after the other; the answers' outermost keys."""
    heard, rest = [], list(numbers)
    while rest:
        with connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}", max_size=None, proxy=None) as websocket:
            websocket.recv(timeout=60)
            try:
                while rest:
                    websocket.send(hostile_frame(rest.pop(), HONEST))
                    heard.append(*deserialise(websocket.recv(timeout=60)))
            except ConnectionClosed:
                pass
    return heard


def make_noise(port, connections):
    """Bytes that are no websocket frames, on connections that were upgraded."""
    for number in range(connections):
        with connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}", proxy=None, close_timeout=1) as websocket:
            with contextlib.suppress(ConnectionError):
                websocket.socket.sendall(random.Random(number).randbytes(500))
            with contextlib.suppress(ConnectionClosed):
                while True:
                    websocket.recv(timeout=60)


def test_an_honest_session_is_answered_beside_an_attack(tmp_path):
    """Each of its observations by its own pose; every hostile frame has its answer."""
    make_checkpoint(tmp_path / "run", 30)
    with running(tmp_path / "run") as (port, _), InferenceClient("127.0.0.1", port).session() as session:
        with ThreadPoolExecutor(3) as pool:
            noise = pool.submit(make_noise, port, 20)
            attacks = [pool.submit(attack, port, range(start, FRAMES, 2)) for start in (0, 1)]
            answered = 0
            while not all(each.done() for each in (noise, *attacks)):
                pose = np.array([(answered % 1000) / 1e4, 0, 0, 1.0, 0, 0, 0])
                steps = session.infer(observation(**{keys.EE_POSE: pose}))
                np.testing.assert_allclose([step.command.pose for step in steps], [pose] * CHUNK, atol=1e-6)
                answered += 1
        noise.result()
        heard = [answer for each in attacks for answer in each.result()]
        assert (len(heard), set(heard)) == (FRAMES, {"error", "result"})
        assert answered > 0
