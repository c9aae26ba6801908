"""The wire's encoding: ``serialise`` and ``deserialise``, at the import path that clients know.

Decision: plain msgpack, numpy arrays as maps with bytes keys. It is what robots in the field already speak; it is one
small dependency in many languages, and an array costs one copy each way.
Not pickle: reading it runs code that the other side chose. Not JSON: images would travel as text. Not msgpack's
extension types: other clients of this protocol do not know ours.

    array   {b'__ndarray__': True, b'data': C-order bytes, b'dtype': '|u1', b'shape': [h, w, 3]}
    scalar  {b'__npgeneric__': True, b'data': 0.5, b'dtype': '<f4'}
    images  {b'__jpeg__': True, b'frames': [jpeg, ...], b'ndim': 3 or 4}   (read, never written; needs Pillow)
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError

ARRAY = b"__ndarray__"
SCALAR = b"__npgeneric__"
JPEG = b"__jpeg__"
DATA, DTYPE, SHAPE = b"data", b"dtype", b"shape"
FRAMES, NDIM = b"frames", b"ndim"

REFUSED_KINDS = "VOc"  # structured, object, complex: no client can read them


def serialise(value: Any) -> bytes:
    """Maps, lists, strings, bytes, numbers, None and numpy arrays to bytes. Tuples come back as lists.

    Raises PositronicError for anything else, and for structured, object and complex arrays.
    """
    try:
        return msgpack.packb(value, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise PositronicError(f"Cannot be sent: {error}.") from error


def deserialise(data: bytes) -> Any:
    """What ``serialise`` was given. Arrays are READ-ONLY views of ``data``: copy before writing into one.

    Raises PositronicError when ``data`` is not msgpack, or an array or image in it is damaged.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise PositronicError(f"Expected a binary message, found {type(data).__name__}.")
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except (ValueError, TypeError, ArithmeticError, SyntaxError, RecursionError, msgpack.UnpackException) as error:
        raise PositronicError(
            f"Not a message of this protocol (msgpack expected): {str(error) or type(error).__name__}."
        ) from error


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


def _decode(fields: dict[Any, Any]) -> Any:
    if ARRAY in fields:
        return _decode_array(fields)
    if SCALAR in fields:
        return _dtype(fields).type(_field(fields, DATA))
    if JPEG in fields:
        return _decode_jpeg(fields)
    return fields


def _decode_array(fields: Mapping[bytes, Any]) -> NDArray[Any]:
    dtype, shape, data = _dtype(fields), _field(fields, SHAPE), _field(fields, DATA)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array's shape is {shape}")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of {dtype} and shape {tuple(shape)} came with {len(data)} bytes")
    return np.ndarray(shape, dtype, buffer=data)


def _decode_jpeg(fields: Mapping[bytes, Any]) -> NDArray[np.uint8]:
    frames = [_decode_frame(jpeg) for jpeg in _field(fields, FRAMES)]
    if SHAPE in fields:
        return np.asarray(frames, np.uint8).reshape(fields[SHAPE])
    ndim = _field(fields, NDIM)
    if ndim not in (3, 4) or not frames or (ndim == 3 and len(frames) != 1):
        raise ValueError(f"{len(frames)} JPEG frames cannot make an image of {ndim} dimensions")
    return frames[0] if ndim == 3 else np.stack(frames)


def _decode_frame(jpeg: bytes) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError:
        raise PositronicError("JPEG images need Pillow: `pip install pillow`, or send raw uint8 arrays.") from None
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, TypeError, Image.DecompressionBombError) as error:
        raise ValueError(f"a JPEG frame is damaged: {error}") from error


def _dtype(fields: Mapping[bytes, Any]) -> np.dtype[Any]:
    dtype = np.dtype(_field(fields, DTYPE))
    _check_kind(dtype)
    return dtype


def _field(fields: Mapping[bytes, Any], name: bytes) -> Any:
    if name not in fields:
        raise ValueError(f"an array came without its {name!r}")
    return fields[name]


def _check_kind(dtype: np.dtype[Any]) -> None:
    if dtype.kind in REFUSED_KINDS:
        raise ValueError(f"arrays of dtype {dtype} do not travel; send numbers, booleans or text")
