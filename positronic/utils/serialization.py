"""The wire's encoding: ``serialise`` and ``deserialise``, at the import path that clients know.

Decision: plain msgpack, numpy arrays as maps with bytes keys. It is what robots in the field already speak; it is one
small dependency in many languages, and an array costs one copy each way.
Not pickle: reading it runs code that the other side chose. Not JSON: images would travel as text. Not msgpack's
extension types: other clients of this protocol do not know ours.

    array   {b'__ndarray__': True, b'data': C-order bytes, b'dtype': '|u1', b'shape': [h, w, 3]}
    scalar  {b'__npgeneric__': True, b'data': 0.5, b'dtype': '<f4'}
    images  {b'__jpeg__': True, b'frames': [jpeg, ...], b'ndim': 3 or 4}   (written on request; needs Pillow)

Other clients in the field write arrays a little differently, and are read as well: the same maps with text keys, and
those of the msgpack-numpy package, {b'nd': True, b'type': '|u1', b'kind': b'', b'shape': [...], b'data': bytes}, whose
keys are text in vLLM.

A message comes from a stranger. So dtypes are those of a list that is read here, numpy's own parser never sees the
text; and what one message may cost is bounded, whatever its bytes say (``_Budget``).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError, clipped
from positronic.utils.msgpack_walk import Buffer, map_spans

ARRAY = b"__ndarray__"
SCALAR = b"__npgeneric__"
JPEG = b"__jpeg__"
DATA, DTYPE, SHAPE = b"data", b"dtype", b"shape"
FRAMES, NDIM = b"frames", b"ndim"
ARRAY_FIELDS = {ARRAY, DATA, DTYPE, SHAPE}
ARRAY_VALUES = 16  # enough for four fields and the numbers of a shape
COPIED_BYTES = 4096  # copying less costs less than looking for where it begins
BIN_HEADS = range(0xC4, 0xC7)  # of bytes, their length in 1, 2 or 4 bytes
ND, TYPE = b"nd", b"type"  # the msgpack-numpy package

MAX_FRAME_BYTES = 64 << 20
MAX_PIXELS = MAX_FRAME_BYTES // 3  # JPEG pictures may not become more than raw ones could be
MAX_ITEMS = 2_600_000  # two camera pictures of 640 x 480 as plain lists
MAX_KEYS = 1024  # of one map
MAX_KEY_CHARS = 256
MAX_LIST = 1 << 16
MAX_TEXT_BYTES = 1 << 20
MAX_DIMENSIONS = 32
MAX_JPEG_FRAMES = 256
FEW_VALUES = 256  # in all of a message: an array and its key are about 12. Those are found without a copy
MAX_JPEG_SCANS = 64  # a progressive picture has about ten; each costs a pass over all its pixels
MAP_COST = 64  # reading a map takes as long as reading this many numbers
PIECE_BYTES = 1 << 20

LIMITS = {
    "max_map_len": MAX_KEYS,
    "max_array_len": MAX_LIST,
    "max_str_len": MAX_TEXT_BYTES,
    "max_bin_len": MAX_FRAME_BYTES,
    "max_ext_len": 0,
}
WRITTEN_KINDS = "biufSU"
DTYPE_TEXT = re.compile(r"[<>=|]?(?:b1|[iu][1248]|f[248]|[SU][1-9]\d{0,4})|bool|u?int(?:8|16|32|64)|float(?:16|32|64)")
SCALAR_TYPES = {"b": (bool, int), "i": (int,), "u": (int,), "f": (float, int), "S": (bytes,), "U": (str,)}
EXIF_ORIENTATION = 0x0112
SCAN_MARKER = b"\xff\xda"
UNREADABLE = (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError, msgpack.UnpackException)


def serialise(value: Any) -> bytes:
    """Maps, lists, strings, bytes, numbers, None and numpy arrays to bytes. Tuples come back as lists.

    Raises PositronicError for anything else, and for arrays of other things than numbers, booleans and text.
    """
    try:
        return msgpack.packb(value, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise PositronicError(f"Cannot be sent: {error}.") from error


def deserialise(data: bytes) -> Any:
    """What ``serialise`` was given. Arrays are READ-ONLY views of ``data``: copy before writing into one.

    Raises PositronicError when ``data`` is not msgpack, an array or image in it is damaged, or it is too much: longer
    maps, lists or texts, or more pixels, than any client sends.
    """
    _require_bytes(data)
    return _unpack(data, _Budget())


def deserialise_lazily(data: Buffer) -> Any:
    """Like ``deserialise``, but the values of an outermost map are decoded when they are asked for.

    A value that nobody asks for costs next to nothing, whatever it holds. Raises PositronicError at once when ``data``
    is no msgpack map of text to values, and when a value is asked for that is damaged or too much.
    """
    _require_bytes(data)
    return LazyMap(data) if _is_map(data) else deserialise(data)


class LazyMap(Mapping[str, Any]):
    """An outermost map of a message. Not for several threads at once."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self._budget = _Budget()
        self._decoded: dict[str, Any] = {}
        try:
            self._spans = _few_spans(self._data) or _spans(data)
        except UNREADABLE as error:
            raise _not_a_message(error) from None

    def __getitem__(self, key: str) -> Any:
        if key not in self._decoded:
            start, end = self._spans[key]
            try:
                self._decoded[key] = _value(self._data[start:end], self._budget)
            except PositronicError as error:
                raise PositronicError(f"The value of '{key}': {error}") from None
        return self._decoded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._spans

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


class _Pieces:
    """A file of ``data`` that is read in pieces, so that other threads can run between two pieces."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = memoryview(data), 0

    def read(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        return bytes(self._data[start : self._position])


def _few_spans(data: memoryview) -> dict[str, tuple[int, int]] | None:
    """Like ``_spans``, without a copy; None if there are too many values, or something is wrong."""
    spans = map_spans(data, FEW_VALUES)
    if spans is None:
        return None
    try:
        named = {_few_text(data, *key): value for key, value in _pairs(spans)}
    except UNREADABLE:
        return None
    return named if 2 * len(named) == len(spans) and all(len(key) <= MAX_KEY_CHARS for key in named) else None


def _few_text(data: memoryview, start: int, end: int) -> str:
    text = msgpack.unpackb(data[start:end], **LIMITS)
    if not isinstance(text, str):
        raise ValueError("a key that is no text")
    return text


def _value(data: memoryview, budget: _Budget) -> Any:
    """A value of an outermost map. An array is a view of the message: pictures are most of it."""
    array = _plain_array(data) if len(data) > COPIED_BYTES else None
    return _unpack(data, budget) if array is None else array


def _plain_array(data: memoryview) -> NDArray[Any] | None:
    """The array as this protocol writes it. None for anything else, and for one that is damaged."""
    spans = map_spans(data, ARRAY_VALUES)
    if spans is None or len(spans) != 2 * len(ARRAY_FIELDS):
        return None
    try:
        fields = {msgpack.unpackb(data[slice(*key)]): data[slice(*value)] for key, value in _pairs(spans)}
        if fields.keys() != ARRAY_FIELDS or fields[DATA][0] not in BIN_HEADS:
            return None
        head = 1 + (1 << fields[DATA][0] - BIN_HEADS[0])
        return _array(msgpack.unpackb(fields[DTYPE]), msgpack.unpackb(fields[SHAPE]), fields[DATA][head:])
    except UNREADABLE:
        return None


def _pairs(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    return zip(spans[::2], spans[1::2], strict=True)


def _spans(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each text key begins and ends; no value is built. Keys of another type are left out."""
    size = {"read_size": PIECE_BYTES, "max_buffer_size": len(data) + PIECE_BYTES}
    unpacker = msgpack.Unpacker(_Pieces(data), object_hook=_no_key, list_hook=_no_key, **size, **LIMITS)
    count = unpacker.read_map_header()
    if count > MAX_KEYS:
        raise ValueError(f"{count} keys in one map; at most {MAX_KEYS} are read")
    spans = {}
    for _ in range(count):
        key = unpacker.unpack()
        if isinstance(key, str) and len(key) > MAX_KEY_CHARS:
            raise ValueError(f"a key of {len(key)} characters; at most {MAX_KEY_CHARS} are read")
        start = unpacker.tell()
        unpacker.skip()
        if key in spans:
            raise ValueError(f"the key {clipped(repr(key), 80)} comes twice")
        if isinstance(key, str):
            spans[key] = (start, unpacker.tell())
    if unpacker.tell() != len(data):
        raise ValueError(f"{len(data) - unpacker.tell()} more bytes after the message's end")
    return spans


def _no_key(value: Any) -> Any:
    raise ValueError(f"a {type(value).__name__} as the key of a map")


class _Budget:
    """What one message may still cost: numbers, lists and maps that are built, pixels that are decoded."""

    def __init__(self) -> None:
        self._items, self._pixels = MAX_ITEMS, MAX_PIXELS

    def take_map(self, fields: dict[Any, Any]) -> Any:
        """A map that was read, or the array or image that it stands for."""
        self._take(MAP_COST + len(fields))
        return _decode(fields, self)

    def take_list(self, items: list[Any]) -> list[Any]:
        self._take(1 + len(items))
        return items

    def take_pixels(self, count: int) -> None:
        self._pixels -= count
        if self._pixels < 0:
            raise ValueError(f"pictures of more than {MAX_PIXELS / 1e6:.0f} million pixels in one message")

    def _take(self, count: int) -> None:
        self._items -= count
        if self._items < 0:
            raise ValueError(f"more than {MAX_ITEMS} values in one message; send numpy arrays")


def _unpack(data: bytes | memoryview, budget: _Budget) -> Any:
    try:
        return msgpack.unpackb(data, object_hook=budget.take_map, list_hook=budget.take_list, **LIMITS)
    except UNREADABLE as error:
        raise _not_a_message(error) from None


def _not_a_message(error: BaseException) -> PositronicError:
    said = clipped(str(error) or type(error).__name__)
    return PositronicError(f"Not a message of this protocol (msgpack expected): {said}.")


def _require_bytes(data: Any) -> None:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise PositronicError(f"Expected a binary message, found {type(data).__name__}.")


def _is_map(data: bytes) -> bool:
    return bool(len(data)) and (0x80 <= data[0] <= 0x8F or data[0] in (0xDE, 0xDF))  # fixmap, map 16, map 32


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _check_kind(value.dtype)
        return {ARRAY: True, DATA: value.tobytes(), DTYPE: value.dtype.str, SHAPE: list(value.shape)}
    if isinstance(value, np.generic):
        _check_kind(value.dtype)
        return {SCALAR: True, DATA: value.item(), DTYPE: value.dtype.str}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"expected maps, lists, text, numbers and numpy arrays, found {type(value).__name__}")


@lru_cache
def _check_kind(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in WRITTEN_KINDS or not DTYPE_TEXT.fullmatch(dtype.str):
        raise ValueError(f"arrays of dtype {dtype} do not travel; send numbers, booleans or text")


def _decode(fields: dict[Any, Any], budget: _Budget) -> Any:
    if ND in fields or ND.decode() in fields:
        return _decode_foreign(fields)
    named = _bytes_keys(fields)
    if ARRAY in named:
        return _array(_field(named, DTYPE), _field(named, SHAPE), _field(named, DATA))
    if SCALAR in named:
        return _scalar(_field(named, DTYPE), _field(named, DATA))
    if JPEG in named:
        return _decode_jpeg(named, budget)
    return fields


def _bytes_keys(fields: dict[Any, Any]) -> Mapping[Any, Any]:
    """Array maps with bytes keys, also those of clients that write text."""
    if any(marker.decode() in fields for marker in (ARRAY, SCALAR, JPEG)):
        return {key.encode() if isinstance(key, str) else key: value for key, value in fields.items()}
    return fields


def _decode_foreign(fields: dict[Any, Any]) -> Any:
    """The msgpack-numpy package's map; any other map that happens to have a key of this name as it is."""
    named = {key.encode() if isinstance(key, str) else key: value for key, value in fields.items()}
    if TYPE not in named or DATA not in named:
        return fields
    if named[ND]:
        return _array(named[TYPE], _field(named, SHAPE), named[DATA])
    return _array(named[TYPE], [1], named[DATA])[0]


def _array(dtype_text: Any, shape: Any, data: Any) -> NDArray[Any]:
    dtype = _dtype(dtype_text)
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_is_size(size) for size in shape):
        raise ValueError(f"an array's shape is {clipped(repr(shape), 80)}")
    if not isinstance(data, bytes | memoryview):
        raise ValueError(f"an array's data is of type {type(data).__name__}, not bytes")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of {dtype} and shape {tuple(shape)} came with {len(data)} bytes")
    return np.ndarray(shape, dtype, buffer=data)


def _is_size(size: Any) -> bool:
    return type(size) is int and 0 <= size <= MAX_FRAME_BYTES


def _scalar(dtype_text: Any, value: Any) -> np.generic:
    dtype = _dtype(dtype_text)
    if type(value) not in SCALAR_TYPES[dtype.kind]:
        raise ValueError(f"a scalar of {dtype} came with a value of type {type(value).__name__}")
    return dtype.type(value)


def _dtype(text: Any) -> np.dtype[Any]:
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    if not isinstance(text, str) or len(text) > MAX_KEY_CHARS or not DTYPE_TEXT.fullmatch(text):
        raise ValueError(f"a dtype is {clipped(repr(text), 80)}; numbers, booleans and text are read")
    return _known_dtype(text)


@lru_cache
def _known_dtype(text: str) -> np.dtype[Any]:
    return np.dtype(text)


def _decode_jpeg(fields: Mapping[bytes, Any], budget: _Budget) -> NDArray[np.uint8]:
    jpegs = _field(fields, FRAMES)
    if not isinstance(jpegs, list) or len(jpegs) > MAX_JPEG_FRAMES:
        raise ValueError(f"JPEG frames are a list of at most {MAX_JPEG_FRAMES}")
    frames = [_decode_frame(jpeg, budget) for jpeg in jpegs]
    if SHAPE in fields:
        return np.asarray(frames, np.uint8).reshape(fields[SHAPE])
    ndim = _field(fields, NDIM)
    if ndim not in (3, 4) or not frames or (ndim == 3 and len(frames) != 1):
        raise ValueError(f"{len(frames)} JPEG frames cannot make an image of {clipped(repr(ndim), 80)} dimensions")
    return frames[0] if ndim == 3 else np.stack(frames)


def _decode_frame(jpeg: Any, budget: _Budget) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError:
        raise PositronicError("JPEG images need Pillow: `pip install pillow`, or send raw uint8 arrays.") from None
    if not isinstance(jpeg, bytes) or jpeg.count(SCAN_MARKER) > MAX_JPEG_SCANS:
        raise ValueError(f"a JPEG frame is not bytes, or has more than {MAX_JPEG_SCANS} scans")
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            budget.take_pixels(image.width * image.height)
            _require_upright_rgb(image)
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise ValueError(f"a JPEG frame is damaged: {error}") from None


def _require_upright_rgb(image: Any) -> None:
    """Pictures that readers of JPEG show differently: inverted colours of print, turned or as they lie in the file."""
    if image.mode not in ("RGB", "L"):
        raise ValueError(f"a JPEG frame is {image.mode}, expected RGB")
    turned = image.getexif().get(EXIF_ORIENTATION, 1) if "exif" in image.info else 1
    if turned != 1:
        raise ValueError(f"a JPEG frame asks to be turned (EXIF orientation {turned}); send it upright")


def _field(fields: Mapping[bytes, Any], name: bytes) -> Any:
    if name not in fields:
        raise ValueError(f"an array came without its {name!r}")
    return fields[name]
