import contextlib
import io
import subprocess
import sys
from types import MappingProxyType

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from positronic.errors import PositronicError
from positronic.utils.serialization import deserialise, serialise

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
    hnp.unicode_string_dtypes(max_len=4),
)


def jpeg(image_hwc):
    file = io.BytesIO()
    Image.fromarray(image_hwc).save(file, "JPEG", quality=90)
    return file.getvalue()


@settings(deadline=None)
@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=5)))
def test_every_array_comes_back(array):
    """dtype, byte order, shape and bytes survive, empty and 0-d arrays included."""
    back = deserialise(serialise({"x": array}))["x"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_an_array_travels_as_the_published_map():
    """Bytes keys, C-order bytes, the dtype's str: what every existing client reads."""
    wire = msgpack.unpackb(serialise(np.arange(6, dtype="<f4").reshape(2, 3).T))
    expected = np.arange(6, dtype="<f4").reshape(2, 3).T.tobytes()
    assert wire == {b"__ndarray__": True, b"data": expected, b"dtype": "<f4", b"shape": [3, 2]}


def test_a_numpy_scalar_travels_as_the_published_map_and_keeps_its_type():
    """float32 is marked; float64 is a Python float and travels as one."""
    assert msgpack.unpackb(serialise(np.float32(0.5))) == {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}
    assert type(deserialise(serialise(np.uint8(7)))) is np.uint8
    assert msgpack.unpackb(serialise(np.float64(0.5))) == 0.5


def test_tuples_come_back_as_lists_and_frozen_maps_as_dicts():
    """What msgpack has no type for becomes the nearest it has."""
    assert deserialise(serialise(MappingProxyType({"a": (1, None, "x", b"y")}))) == {"a": [1, None, "x", b"y"]}


def test_decoded_arrays_are_read_only():
    """They are views of the message; writing needs a copy."""
    array = deserialise(serialise(np.zeros(3)))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize(
    "value", [np.array([None]), np.zeros(2, "f4,i4"), np.zeros(2, complex), np.complex64(1), object(), {1, 2}, 2**70]
)
def test_what_cannot_travel_is_refused(value):
    """Object, structured and complex arrays, foreign objects and too large integers."""
    with pytest.raises(PositronicError, match="Cannot be sent"):
        serialise({"x": value})


def array_map(**changes):
    fields = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2], **changes}
    return {key.encode(): value for key, value in fields.items() if value is not None}


@pytest.mark.parametrize(
    "message",
    [
        array_map(dtype="O"),
        array_map(dtype="c8", data=bytes(16)),
        array_map(dtype="f4,f4", data=bytes(16)),
        array_map(dtype="no such type"),
        array_map(dtype=None),
        array_map(shape=[3]),
        array_map(shape=[-1]),
        array_map(shape=None),
        array_map(shape=[2**40, 2**40]),
        array_map(shape=5),
        array_map(data=7),
        {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"},
        {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"},
        {b"__npgeneric__": True, b"data": {}, b"dtype": "<i4"},
        array_map(dtype="(3"),
        array_map(dtype="(2,)f4"),
        array_map(dtype={"names": ["a"], "formats": ["f4"]}),
        {b"__jpeg__": True, b"frames": [b"not a jpeg"], b"ndim": 3},
        {b"__jpeg__": True, b"frames": [], b"ndim": 3},
        {b"__jpeg__": True, b"frames": 3, b"ndim": 3},
    ],
)
def test_a_damaged_array_is_refused(message):
    """Refused dtypes, wrong sizes and broken images never become arrays."""
    with pytest.raises(PositronicError, match="Not a message"):
        deserialise(msgpack.packb({"x": message}))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_raise_the_one_error(data):
    """Noise never raises anything but PositronicError."""
    with contextlib.suppress(PositronicError):
        deserialise(data)


def test_a_truncated_message_and_text_are_refused():
    """A cut frame and a text frame say what was expected."""
    with pytest.raises(PositronicError, match="msgpack expected"):
        deserialise(serialise({"x": np.zeros(100)})[:-1])
    with pytest.raises(PositronicError, match="binary message, found str"):
        deserialise("{}")


def test_a_jpeg_marker_decodes_to_an_image_and_a_stack():
    """ndim 3 is one frame, ndim 4 a stack, an explicit shape any batch; RGB near the original."""
    image = np.tile(np.linspace(0, 255, 16, dtype=np.uint8)[None, :, None], (8, 1, 3))
    frames = [jpeg(image)] * 2
    one = deserialise(msgpack.packb({b"__jpeg__": True, b"frames": frames[:1], b"ndim": 3}))
    stack = deserialise(msgpack.packb({b"__jpeg__": True, b"frames": frames, b"ndim": 4}))
    batch = deserialise(msgpack.packb({b"__jpeg__": True, b"frames": frames, b"shape": [1, 2, 8, 16, 3]}))
    empty = deserialise(msgpack.packb({b"__jpeg__": True, b"frames": [], b"shape": [0, 8, 16, 3]}))
    assert [x.shape for x in (one, stack, batch, empty)] == [(8, 16, 3), (2, 8, 16, 3), (1, 2, 8, 16, 3), (0, 8, 16, 3)]
    assert np.abs(one.astype(int) - image).max() < 12


def test_a_jpeg_without_pillow_says_what_to_install():
    """Pillow is optional; its absence is named."""
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from positronic.utils.serialization import deserialise\n"
        "import msgpack\n"
        "deserialise(msgpack.packb({b'__jpeg__': True, b'frames': [b'x'], b'ndim': 3}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "PositronicError: JPEG images need Pillow" in done.stderr
