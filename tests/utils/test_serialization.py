import contextlib
import io
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from positronic.errors import PositronicError
from positronic.utils.serialization import deserialise, deserialise_lazily, serialise

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


HOSTILE = {
    "a dtype that makes numpy's parser divide by zero": array_map(dtype="m8[D/0]", shape=[0], data=b""),
    "a dtype of 3 MB": array_map(dtype="f4," * 1_000_000, shape=[0], data=b""),
    "a text scalar that asks for half a gigabyte": {b"__npgeneric__": True, b"dtype": "|S1", b"data": 5 * 10**8},
    "a text array of no width": array_map(dtype="<U0", shape=[2**40], data=b""),
    "more dimensions than any picture": array_map(dtype="|u1", shape=[1] * 60, data=b"\0"),
    "8 MB of empty maps": [[{}] * 1000] * 1000 * 8,
    "half a million pairs": [[0, 0]] * 60_000 * 8,
    "a hundred thousand keys": {f"k{i}": 0 for i in range(100_000)},
    "a text of 2 MB": "x" * (2 << 20),
    "a pickled object of msgpack-numpy": {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"x" * 8},
    "records of msgpack-numpy": {b"nd": True, b"type": [["a", "<f4"]], b"kind": b"V", b"shape": [1], b"data": bytes(4)},
    "300 JPEG frames": {b"__jpeg__": True, b"frames": [b"x"] * 300, b"ndim": 4},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_cost_everybody_is_refused(name):
    """Within a second, by one short sentence."""
    message = msgpack.packb({"x": HOSTILE[name]})
    with pytest.raises(PositronicError, match="Not a message") as refused:
        deserialise(message)
    assert len(str(refused.value)) < 1000


def test_nesting_without_end_is_refused():
    """Deeper than a thousand lists."""
    with pytest.raises(PositronicError, match="Not a message"):
        deserialise(b"\x91" * 5000 + b"\xc0")


def test_extension_types_are_refused():
    """No client of this protocol writes one."""
    with pytest.raises(PositronicError, match="max_ext_len"):
        deserialise(msgpack.packb(msgpack.ExtType(5, b"x")))


def test_pixels_are_bounded_over_a_message():
    """Small pictures pass until their sum is more than raw pictures could be; a large one is not decoded at all."""
    black = jpeg(np.zeros((4000, 4000, 3), np.uint8))
    one = {b"__jpeg__": True, b"frames": [black], b"ndim": 3}
    assert deserialise(msgpack.packb({"x": one}))["x"].shape == (4000, 4000, 3)
    with pytest.raises(PositronicError, match="million pixels in one message"):
        deserialise(msgpack.packb({"x": one, "y": one}))
    with pytest.raises(PositronicError, match="million pixels in one message"):
        deserialise_lazily(msgpack.packb({"x": {**one, b"frames": [black] * 2, b"ndim": 4}}))["x"]


def test_a_picture_of_a_thousand_scans_is_refused():
    """Each scan of a progressive JPEG costs a pass over all its pixels."""
    with pytest.raises(PositronicError, match="scans"):
        deserialise(msgpack.packb({b"__jpeg__": True, b"frames": [b"\xff\xda" * 1000], b"ndim": 3}))


@pytest.mark.parametrize(
    ("mode", "orientation", "says"),
    [("RGB", 6, "asks to be turned"), ("RGB", 3, "asks to be turned"), ("CMYK", 1, "is CMYK, expected RGB")],
)
def test_a_picture_that_readers_show_differently_is_refused(mode, orientation, says):
    """Turned by its EXIF data, or in the colours of print."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new(mode, (16, 8)).save(file, "JPEG", exif=exif)
    with pytest.raises(PositronicError, match=says):
        deserialise(msgpack.packb({b"__jpeg__": True, b"frames": [file.getvalue()], b"ndim": 3}))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_upright_picture_in_rgb_or_grey_is_read(mode):
    """Also a progressive one that says that it stands upright."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 1
    Image.new(mode, (16, 8), 200).save(file, "JPEG", exif=exif, progressive=True)
    picture = deserialise(msgpack.packb({b"__jpeg__": True, b"frames": [file.getvalue()], b"ndim": 3}))
    assert (picture.shape, picture.dtype) == ((8, 16, 3), np.uint8)


def test_a_key_that_comes_twice_is_refused():
    """Readers would differ in which of the two they take."""
    with pytest.raises(PositronicError, match="the key 'grip' comes twice"):
        deserialise_lazily(b"\x82" + msgpack.packb("grip") + b"\x00" + msgpack.packb("grip") + b"\x01")


def test_a_damaged_value_of_an_outermost_map_is_named():
    """With its key, so that the sender finds it."""
    message = deserialise_lazily(msgpack.packb({"grip": {b"__ndarray__": True, b"dtype": "O"}}))
    with pytest.raises(PositronicError, match="The value of 'grip': .*came without its b'shape'"):
        message["grip"]


def test_an_outermost_map_is_decoded_by_value():
    """A value is read when it is asked for; one that is damaged, and never asked for, harms nobody."""
    message = msgpack.packb({"good": array_map(), "bad": array_map(dtype="O"), b"bytes": 1, 7: 7})
    lazy = deserialise_lazily(message)
    assert (list(lazy), len(lazy), "bad" in lazy) == (["good", "bad"], 2, True)
    np.testing.assert_array_equal(lazy["good"], np.zeros(2, np.float32))
    assert lazy["good"] is lazy["good"]
    with pytest.raises(PositronicError, match="dtype"):
        lazy["bad"]


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=9), st.recursive(st.none() | st.binary(), st.lists, max_leaves=5)))
def test_lazily_and_at_once_are_the_same(value):
    """For every map."""
    message = serialise(value)
    assert dict(deserialise_lazily(message)) == deserialise(message)


@pytest.mark.parametrize(
    "message",
    [
        b"\x82\xa1a",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\x91\x91\xc0\xc0",
        b"\x80\xc0",
        msgpack.packb({f"k{i}": 0 for i in range(2000)}),
        msgpack.packb({"k" * 300: 0}),
    ],
)
def test_a_broken_or_overlong_map_is_refused_at_once(message):
    """Cut, longer than said, a list as a key, more after its end, too many keys, a key too long."""
    with pytest.raises(PositronicError, match="Not a message"):
        deserialise_lazily(message)


@settings(deadline=None)
@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=5)))
def test_an_array_of_an_outermost_map_is_a_view_of_the_message(array):
    """If it is large, as a picture is; of the same values in any case."""
    large = np.resize(array, (4097, *array.shape)) if array.size else array
    for each in (array, large):
        message = serialise({"x": each, "y": 1})
        back = deserialise_lazily(message)["x"]
        assert (back.dtype, back.shape, back.tobytes()) == (each.dtype, each.shape, each.tobytes())
    assert back.size == 0 or np.shares_memory(back, np.frombuffer(message, np.uint8))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_is_refused_lazily_as_at_once(data):
    """Whatever one byte of a message becomes: the same values, or both refuse it."""
    message = bytearray(serialise({"a": np.arange(3.0), "b": [1, "x"], "c": {"d": np.float32(1)}}))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    found = [repr_or_refusal(read, bytes(message)) for read in (deserialise, read_lazily)]
    assert found[0] == found[1] or (not text_keys_only(message) and PositronicError in found)


def read_lazily(message):
    """Every value, in the end; a byte may have made a list of the outermost map."""
    found = deserialise_lazily(message)
    return dict(found) if isinstance(found, Mapping) else found


def repr_or_refusal(read, message):
    try:
        return repr(read(message))
    except PositronicError:
        return PositronicError


def text_keys_only(message):
    try:
        read = msgpack.unpackb(bytes(message), strict_map_key=False)
    except Exception:
        return True
    return isinstance(read, dict) and len(read) == 3 and all(isinstance(key, str) for key in read)


def test_what_is_no_map_is_decoded_at_once():
    """The judge of observations then says what was found instead."""
    assert deserialise_lazily(serialise([1])) == [1]
    with pytest.raises(PositronicError, match="Not a message"):
        deserialise_lazily(b"")


def in_text(fields):
    return {key.decode(): value for key, value in fields.items()}


FOREIGN = {"nd": True, "type": "<f4", "kind": "f", "shape": [2], "data": np.arange(2, dtype="<f4").tobytes()}


@pytest.mark.parametrize(
    "fields",
    [
        {k.encode(): v for k, v in {**FOREIGN, "kind": b""}.items()},
        {k.encode(): v for k, v in {**FOREIGN, "kind": b"", "type": b"<f4"}.items()},
        FOREIGN,
        {"__ndarray__": True, "dtype": "float32", "shape": [2], "data": FOREIGN["data"]},
    ],
)
def test_other_clients_arrays_are_read(fields):
    """The msgpack-numpy package's, vLLM's, and ours with text keys."""
    np.testing.assert_array_equal(deserialise(msgpack.packb({"x": fields}))["x"], np.arange(2, dtype=np.float32))


def test_other_clients_scalars_are_read():
    """msgpack-numpy writes a scalar's bytes, others ours with text keys."""
    foreign = {b"nd": False, b"type": "<f4", b"data": np.float32(0.5).tobytes()}
    ours = {"__npgeneric__": True, "data": 0.5, "dtype": "<f4"}
    assert deserialise(msgpack.packb([foreign, ours])) == [np.float32(0.5)] * 2


def test_a_map_that_happens_to_have_such_a_key_stays_a_map():
    """A task's own data."""
    assert deserialise(serialise({"nd": 1, "other": 2})) == {"nd": 1, "other": 2}
