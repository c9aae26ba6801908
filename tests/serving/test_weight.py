"""Which frames the answering thread reads itself."""

import random
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_server import make_recipe, observation
from toy_vendor import ToyModel

from positronic import keys
from positronic.serving.policy import ServedPolicy
from positronic.serving.readers import read
from positronic.serving.weight import LIGHT_BYTES, is_light
from positronic.serving.wires import PositronicWire
from positronic.utils.serialization import FEW_VALUES, serialise

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
from bench.hostile import heavy_frames, hostile_frame

PICTURE = np.zeros((224, 224, 3), np.uint8)


@pytest.mark.parametrize(
    "seen",
    [
        observation(**{keys.IMAGE_WRIST: PICTURE, keys.IMAGE_EXTERIOR: PICTURE, keys.OBS_TIME_NS: 1}),
        observation(**{keys.EE_POSE: [0.4, 0, 0.3, 0, 1, 0, 0], keys.GRIP: np.float32(0.5)}),
    ],
)
def test_an_honest_observation_is_light(seen):
    """Raw pictures as large as models take them, vectors as arrays and as lists."""
    assert is_light(serialise(seen))


def test_pictures_that_grow_and_many_values_are_heavy():
    """JPEG with bytes and with text keys, large arrays, long lists, deep nests, and what once stopped every robot."""
    assert not any(map(is_light, heavy_frames()))
    assert not is_light(msgpack.packb({"image.wrist": {"__jpeg__": True, "frames": [], "ndim": 3}}))
    assert not is_light(serialise({"grip": np.zeros(LIGHT_BYTES, np.uint8)}))
    assert not is_light(serialise({"grip": [0] * FEW_VALUES}))
    assert not is_light(b"\x91" * FEW_VALUES + b"\xc0")


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=300) | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=60,
)


def values_in(message):
    inner = [*message.keys(), *message.values()] if isinstance(message, dict) else message
    return 1 + (sum(map(values_in, inner)) if isinstance(message, dict | list) else 0)


@settings(deadline=None, max_examples=50)
@given(VALUE, st.sampled_from([0, 100, 1 << 17]))
def test_values_are_counted_as_msgpack_has_them(value, more):
    """Exactly: at the bound a message is light, one value beyond it is not."""
    inside = [value, bytes(more), "x" * more, 0.5, msgpack.ExtType(5, bytes(more // 2)), msgpack.ExtType(6, b"four")]
    missing = FEW_VALUES - values_in(inside)
    if missing >= 0:
        assert is_light(msgpack.packb(inside + [None] * missing))
        assert not is_light(msgpack.packb(inside + [None] * (missing + 1)))


def test_any_light_frame_is_read_in_a_moment():
    """Nobody notices: strangers' frames, and the largest arrays of every kind where a few numbers belong."""
    policy, honest = ServedPolicy(make_recipe(), ToyModel(), {}), serialise(observation())
    room = LIGHT_BYTES - 2 * len(honest)
    arrays = [
        np.full(room // 2, np.nan, np.float16),
        np.ones(room, bool),
        np.full(room, b"1", "S1"),
        np.zeros((room // 3, 1, 3), np.uint8),
    ]
    frames = [serialise(observation(**{key: each})) for key in observation() for each in arrays]
    frames += [hostile_frame(200 * random.Random(number).randrange(1 << 30), honest) for number in range(300)]
    taken_sec = []
    for frame in filter(is_light, frames):
        start_sec = time.thread_time()
        read(b"", policy, frame, PositronicWire())
        taken_sec.append(time.thread_time() - start_sec)
    assert len(taken_sec) > 250
    assert max(taken_sec) < 0.05
