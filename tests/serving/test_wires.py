"""What becomes of the chunks of a model that is wrong, in the words of either protocol, and of a batch of both."""

import numpy as np
import pytest
from toy_server import make_recipe, observation
from toy_vendor import CHUNK, ToyModel

from positronic.serving.failures import Failure
from positronic.serving.messages import Reply
from positronic.serving.policy import ServedPolicy
from positronic.serving.readers import read
from positronic.serving.wires import OpenPiWire, PositronicWire, reply_to
from positronic.utils.serialization import deserialise, serialise

SOUND = np.tile(np.array([0.4, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0, 0.5], np.float32), (CHUNK, 1))


class Wrong(ToyModel):
    """Says ``chunk``, whatever it sees."""

    def __init__(self, chunk):
        super().__init__()
        self.chunk = chunk

    def predict(self, observations, noise=None):
        self.batches.append(len(observations))
        return [self.chunk] * len(observations)


def asked(wire, chunk):
    """What a session is told if its model says ``chunk``."""
    policy = ServedPolicy(make_recipe(), Wrong(chunk), {})
    wire.ready(policy)
    seen = read(b"", policy, serialise(observation()), wire)
    (outcome,) = policy.chunks_each([seen.encoded], [np.random.default_rng()])
    return reply_to(wire, policy, outcome, 0.001)


def changed(index, value):
    chunk = SOUND.copy()
    chunk[index] = value
    return chunk


WRONG = {
    "not a number": changed((2, 3), np.nan),
    "infinite": changed((0, 0), np.inf),
    "too narrow": SOUND[:, :7],
    "too wide": np.hstack([SOUND, SOUND]),
    "one step without its dimension": SOUND[0],
    "chunks in chunks": SOUND[None],
    "a text": "left",
    "nothing": None,
    "rows of different lengths": [[1.0], [1.0, 2.0]],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_chunk_that_is_none_is_an_error_in_either_protocol(wrong):
    """Never a command; a sentence about the model or the type of what went wrong."""
    for wire in (PositronicWire(), OpenPiWire()):
        reply, payload = asked(wire, WRONG[wrong])
        assert reply is Reply.FAILED
        assert payload.decode()


@pytest.mark.parametrize("steps", [0, 1, CHUNK, 1000])
def test_a_chunk_of_any_length_is_answered_whole(steps):
    """Also an empty one, which means no new plan."""
    chunk = np.resize(SOUND, (steps, 8))
    reply, payload = asked(PositronicWire(), chunk)
    assert (reply, len(deserialise(payload)["result"])) == (Reply.ANSWER, steps)
    reply, payload = asked(OpenPiWire(), chunk)
    np.testing.assert_array_equal(deserialise(payload)["actions"], chunk)


def test_sessions_of_both_protocols_share_a_forward_pass():
    """Each is answered in its own words."""
    model = ToyModel(echo=True)
    policy = ServedPolicy(make_recipe(), model, {})
    wires = [PositronicWire(), OpenPiWire(), OpenPiWire()]
    for wire in wires:
        wire.ready(policy)
    by_column = {"state": np.arange(8.0), "image": observation()["image.exterior"]}
    frames = [observation(), observation(), by_column | {"wrist_image": observation()["image.wrist"]}]
    seen = [read(b"", policy, serialise(frame), wire) for frame, wire in zip(frames, wires, strict=True)]
    chunks = policy.chunks_each([each.encoded for each in seen], [np.random.default_rng()] * 3)
    told = [deserialise(reply_to(w, policy, c, 0.0)[1]) for w, c in zip(wires, chunks, strict=True)]
    assert model.batches == [3]
    assert [*map(set, told[:1])] == [{"result"}]
    np.testing.assert_array_equal(told[2]["actions"], np.tile(np.arange(8, dtype=np.float32), (CHUNK, 1)))


def test_an_error_is_as_long_as_a_reason_may_be():
    """Without halves of characters."""
    reply, payload = reply_to(PositronicWire(), None, Failure("\ud800" + "x" * 10_000), 0.0)
    assert (reply, len(payload.decode()) < 1100) == (Reply.FAILED, True)
