"""Arrays as clients in the field write them, in any byte order and layout: each is read as the same numbers."""

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from toy_server import make_recipe, observation
from toy_vendor import ToyModel

from positronic import keys
from positronic.serving.policy import ServedPolicy
from positronic.serving.scheduler import answer_frames
from positronic.utils.serialization import deserialise, deserialise_lazily, serialise

PICTURE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)
ARRAYS = {
    "big-endian float32": NUMBERS.astype(">f4"),
    "big-endian float64": NUMBERS.astype(">f8"),
    "big-endian int16": NUMBERS.astype(">i2"),
    "float16": NUMBERS.astype("<f2"),
    "column by column": np.asfortranarray(NUMBERS),
    "turned": NUMBERS.T,
    "every second": NUMBERS[::2, ::3],
    "backwards": NUMBERS[::-1],
    "one number": np.array(0.5, np.float32),
    "one big-endian number": np.array(0.5, ">f8"),
    "empty": np.zeros((0, 7), np.float32),
    "booleans": NUMBERS > 7,
    "a picture": PICTURE,
    "a picture column by column": np.asfortranarray(PICTURE),
    "a part of a picture": PICTURE[::2, 1:30, ::-1],
}


def with_text_keys(value):
    """As openpi's map, its keys as text."""
    if not isinstance(value, np.ndarray):
        return value
    return {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}


def as_vllm(value):
    """As msgpack-numpy's map, its keys as text."""
    if not isinstance(value, np.ndarray):
        return value
    kind = {"nd": True, "type": value.dtype.str, "kind": value.dtype.kind}
    return {**kind, "shape": list(value.shape), "data": value.tobytes()}


WRITERS = {
    "ours and openpi's": serialise,
    "ours with text keys": lambda value: msgpack.packb(value, default=with_text_keys),
    "the msgpack-numpy package": lambda value: msgpack.packb(value, default=msgpack_numpy.encode),
    "vLLM": lambda value: msgpack.packb(value, default=as_vllm),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("array", ARRAYS)
def test_an_array_is_read_as_the_numbers_that_were_written(writer, array):
    """Its dtype, byte order included, its shape and its values; at once and by value."""
    written = ARRAYS[array]
    message = WRITERS[writer]({"x": written, "deep": {"x": written}})
    lazy = deserialise_lazily(message)
    for read in (deserialise(message)["x"], lazy["x"], lazy["deep"]["x"]):
        assert (read.dtype, read.shape) == (written.dtype, written.shape)
        np.testing.assert_array_equal(read, written)
        assert read.flags.c_contiguous


STRANGE = {
    "big-endian": lambda value: value.astype(value.dtype.newbyteorder(">")),
    "column by column": np.asfortranarray,
    "not contiguous": lambda value: np.repeat(value, 2, axis=0)[::2],
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("strange", STRANGE)
def test_an_observation_has_the_same_answer_however_it_is_written(writer, strange):
    """State and pictures; a grip of one number as an array of none, one or no dimension more."""
    policy = ServedPolicy(make_recipe(), ToyModel(echo=True), {})
    plain = observation()
    changed = {key: STRANGE[strange](value) if isinstance(value, np.ndarray) else value for key, value in plain.items()}
    frames = [WRITERS[writer](changed | {keys.GRIP: grip}) for grip in (changed[keys.GRIP], np.array(0.5, ">f4"), 0.5)]
    expected, *answers = answer_frames(policy, [serialise(plain), *frames])
    assert "result" in deserialise(expected)
    assert answers == [expected] * 3
