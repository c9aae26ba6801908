"""TFRecord files and the `tf.train.Example` messages in them, read without TensorFlow.

A record is its length (8 bytes), a checksum of that, the data, and a checksum of the data. An Example is a message of
protocol buffers: a map from a name to a list of bytes, of float32 or of int64. The packages that read both are not
maintained (`tfrecord`) or bring TensorFlow; what is needed of the two formats is a page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from positronic.errors import PositronicError

HEADER, FOOTER = 12, 4
CASTAGNOLI = 0x82F63B78  # CRC-32C's polynomial, reversed
MASK = 0xA282EAD8  # added to each checksum, by TensorFlow's record_writer
VARINT, BITS64, LENGTH, BITS32 = 0, 1, 2, 5  # wire types of protocol buffers
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # fields of tf.train.Feature

Feature = list[bytes] | np.ndarray


def spans(path: Path) -> list[tuple[int, int]]:
    """``(where it begins, its length)`` of the data of each record. Raises PositronicError for a file that is cut off
    or is no TFRecord; only the lengths' checksums are compared."""
    found, at, size = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            header = file.read(HEADER)
            if len(header) < HEADER or struct.unpack("<I", header[8:])[0] != _masked(header[:8]):
                raise PositronicError(f"{path}: no TFRecord at byte {at}. Is it one, uncompressed, and copied whole?")
            (length,) = struct.unpack("<Q", header[:8])
            if at + HEADER + length + FOOTER > size:
                raise PositronicError(f"{path}: cut off in record {len(found)}. Copy it again.")
            found.append((at + HEADER, length))
            at += HEADER + length + FOOTER
    return found


def read_example(path: Path, span: tuple[int, int]) -> dict[str, Feature]:
    """The features of one record: lists of bytes, and arrays of float32 or int64. Raises PositronicError for data that
    is no Example."""
    start, length = span
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(length)
    try:
        return dict(_entry(entry) for features in _fields(data, 1) for entry in _fields(features, 1))
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise PositronicError(f"{path}: the record at byte {start} is no tf.train.Example ({error}).") from None


def _entry(entry: memoryview) -> tuple[str, Feature]:
    (name,), values = _fields(entry, 1), _fields(entry, 2)
    return bytes(name).decode(), _feature(values[0]) if values else []


def _feature(message: memoryview) -> Feature:
    for field, kind, content in _parts(message):
        if kind == LENGTH and field == BYTES_LIST:
            return [bytes(value) for value in _fields(content, 1)]
        if kind == LENGTH and field == FLOAT_LIST:
            return np.frombuffer(b"".join(bytes(part) for _, _, part in _parts(content)), "<f4")
        if kind == LENGTH and field == INT64_LIST:
            return np.array([value for _, kind, part in _parts(content) for value in _integers(kind, part)], np.int64)
    return []


def _integers(kind: int, part: memoryview | int) -> Iterator[int]:
    """One, or several in a row; the highest bit is the sign."""
    for value in [part] if kind == VARINT else _varints(part):
        yield value - (1 << 64) if value >> 63 else value


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _fields(message: memoryview | bytes, number: int) -> list[memoryview]:
    return [content for field, kind, content in _parts(message) if field == number and kind == LENGTH]


def _parts(message: memoryview | bytes) -> Iterator[tuple[int, int, memoryview | int]]:
    """``(field, wire type, content)`` of each field in the message."""
    message, at = memoryview(message), 0
    while at < len(message):
        tag, at = _varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == VARINT:
            content, at = _varint(message, at)
        else:
            size, at = _varint(message, at) if kind == LENGTH else ({BITS64: 8, BITS32: 4}[kind], at)
            content, at = message[at : at + size], at + size
            if at > len(message):
                raise ValueError("a field is longer than its message")
        yield field, kind, content


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def _masked(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _table()[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (CASTAGNOLI if byte & 1 else 0)
        table.append(byte)
    return tuple(table)
