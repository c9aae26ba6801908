"""Frames that no honest client sends: observations with one thing wrong, noise, and some that ask for too much."""

from __future__ import annotations

import io
import random
from functools import cache
from typing import Any

import msgpack
import numpy as np
from PIL import Image

HEAVY_EVERY = 200  # frames; each of them would have stopped everybody for seconds once
Path = tuple[Any, ...]


def hostile_frame(number: int, honest: bytes) -> bytes:
    """Number ``number`` of an endless, fixed row of frames: ``honest``, an observation's frame, with a fault."""
    rng = random.Random(number)
    if number % HEAVY_EVERY == HEAVY_EVERY - 1:
        return rng.choice(heavy_frames())
    return rng.choice((_spoiled, _spoiled, _flipped, _cut, _noise))(honest, rng)


def _spoiled(honest: bytes, rng: random.Random) -> bytes:
    """One value, somewhere in the structure, replaced by one that does not belong there."""
    message = msgpack.unpackb(honest)
    path = rng.choice(list(_paths(message)))
    _replace(message, path, rng.choice(STRANGE))
    return msgpack.packb(message)


def _flipped(honest: bytes, rng: random.Random) -> bytes:
    """Some bytes of the frame's head changed, where the structure is."""
    frame = bytearray(honest)
    for _ in range(rng.randint(1, 8)):
        frame[rng.randrange(min(len(frame), 400))] = rng.randrange(256)
    return bytes(frame)


def _cut(honest: bytes, rng: random.Random) -> bytes:
    return honest[: rng.randrange(len(honest))]


def _noise(honest: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(400))


def _paths(value: Any, here: Path = ()) -> list[Path]:
    """Where a value can be replaced: below every key and index."""
    children = list(value.items()) if isinstance(value, dict) else []
    children = list(enumerate(value)) if isinstance(value, list) else children
    below = [path for key, child in children for path in _paths(child, (*here, key))]
    return ([here] if here else []) + below


def _replace(message: Any, path: Path, value: Any) -> None:
    for key in path[:-1]:
        message = message[key]
    message[path[-1]] = value


def _array(**changes: Any) -> dict[bytes, Any]:
    fields = {"__ndarray__": True, "data": bytes(28), "dtype": "<f4", "shape": [7], **changes}
    return {name.encode(): value for name, value in fields.items()}


def _jpeg(size: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, "JPEG", quality=20)
    return file.getvalue()


def _pictures(frames: list[Any]) -> dict[bytes, Any]:
    return {b"__jpeg__": True, b"frames": frames, b"ndim": 3 if len(frames) == 1 else 4}


STRANGE = [
    *(None, True, -1, 2**63, 1e308, float("nan"), "", "x" * 1000, b"", b"\0" * 1000, [], {}, [[[]]], {"a": {}}),
    *(_array(dtype=text) for text in ("m8[D/0]", "O", "V8", "f4,f4", "(7,)f4", "<U0", "|S0", ">f2", "c8", "", "\0")),
    *(_array(shape=shape) for shape in ([-1], [2**62] * 3, [0] * 40, [7.0], None, "7", [True] * 7, [0, 2**26])),
    *(_array(data=data) for data in (b"", None, "text", [0] * 28, np.full(7, np.nan, "<f4").tobytes())),
    _array(data=b"\xff" * 56, dtype="<f8"),
    {b"__npgeneric__": True, b"dtype": "|S1", b"data": 10**8},
    {b"__npgeneric__": True, b"dtype": "<i8", b"data": "7"},
    {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"cos\nsystem\n"},
    *(_pictures(frames) for frames in ([], [b"\xff\xd8\xff"], [7], [_jpeg(8)[:-9]], [_jpeg(8)] * 3)),
]


@cache
def heavy_frames() -> list[bytes]:
    """Made once: some of them take their maker longer than their reader."""
    large, medium = _jpeg(10_000), _jpeg(2000)
    return [
        msgpack.packb(_array(dtype="f4," * 1_000_000)),
        msgpack.packb({f"robot_state.ee_pos{i:06d}": 0 for i in range(200_000)}),
        msgpack.packb({f"robot_state.ee_pos{i:06d}": 0 for i in range(1000)}),
        msgpack.packb([{}] * (8 << 20)),
        msgpack.packb({"grip": [[{}] * 1000] * 8000}),
        msgpack.packb({"image.wrist": _pictures([large])}),
        msgpack.packb({"image.wrist": _pictures([medium] * 5)}),
        msgpack.packb({"unread": _pictures([large] * 6)}),
        msgpack.packb({"task": "x" * (8 << 20)}),
        b"\x81\xa4grip" + b"\x91" * 1_000_000 + b"\xc0",
    ]
