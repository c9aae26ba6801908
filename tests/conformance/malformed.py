"""Fifteen kinds of frames that are no observation. Each function makes one of an honest frame, by a generator."""

import msgpack

MAP_32, LIST_32, BYTES_32 = b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"


def noise(honest, rng):
    return rng.randbytes(rng.randrange(1, 400))


def nothing(honest, rng):
    return b""


def text(honest, rng):
    return f'{{"observation": {rng.randrange(1000)}}}'


def cut(honest, rng):
    return honest[: rng.randrange(1, len(honest))]


def flipped(honest, rng):
    """Bytes of the head changed, where the structure is."""
    frame = bytearray(honest)
    for _ in range(rng.randint(1, 8)):
        frame[rng.randrange(min(len(frame), 300))] = rng.randrange(256)
    return bytes(frame)


def too_long(honest, rng):
    return honest + rng.randbytes(rng.randrange(1, 100))


def no_map(honest, rng):
    return msgpack.packb(rng.choice([[1, 2], 7, "grip", None, True, 0.5, b"bytes"]))


def no_keys(honest, rng):
    return msgpack.packb({})


def foreign_keys(honest, rng):
    return msgpack.packb({rng.choice([7, None, b"grip", "x" * 2000]): 1})


def a_promise(honest, rng):
    """Four thousand million items are announced, none comes."""
    return rng.choice([MAP_32, LIST_32, BYTES_32]) + rng.randbytes(3)


def without_end(honest, rng):
    return b"\x81\xa4grip" + b"\x91" * rng.randrange(2000, 20_000)


def one_value_of_another_type(honest, rng):
    return _with(honest, rng, rng.choice([None, "text", {}, [[[]]], {"a": 1}, 2**63, b"\xff" * 7]))


def an_array_of_no_size(honest, rng):
    shape = rng.choice([[-1], [2**62] * 3, [7.0], None, "7", [3, 3, 3, 3]])
    return _with(honest, rng, {b"__ndarray__": True, b"data": bytes(28), b"dtype": "<f4", b"shape": shape})


def an_array_of_no_dtype(honest, rng):
    dtype = rng.choice(["O", "V8", "m8[D/0]", "f4,f4", "<U0", "no such", "c8", ""])
    return _with(honest, rng, {b"__ndarray__": True, b"data": bytes(28), b"dtype": dtype, b"shape": [7]})


def a_picture_that_is_none(honest, rng):
    frames = rng.choice([[], [b"\xff\xd8\xff"], [7], [rng.randbytes(100)], "no list"])
    return _with(honest, rng, {b"__jpeg__": True, b"frames": frames, b"ndim": 3})


def _with(honest, rng, value):
    """Every value replaced, so that one which the policy reads is."""
    return msgpack.packb(dict.fromkeys(msgpack.unpackb(honest), value))


KINDS = [
    *(noise, nothing, text, cut, flipped, too_long, no_map, no_keys, foreign_keys, a_promise, without_end),
    *(one_value_of_another_type, an_array_of_no_size, an_array_of_no_dtype, a_picture_that_is_none),
]
