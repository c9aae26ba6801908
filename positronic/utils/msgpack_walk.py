"""A walk over a message's bytes that builds and copies nothing: where its values begin and end.

It is for messages of few values: Python is slow at this. The specification: github.com/msgpack/msgpack, spec.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

Buffer = bytes | bytearray | memoryview
FIXED_MAPS, FIXED_LISTS = range(0x80, 0x90), range(0x90, 0xA0)
MAPS = range(0xDE, 0xE0)
COUNTED = {0xDC: 1, 0xDD: 1, 0xDE: 2, 0xDF: 2}  # lists and maps that say how many items follow: of a map, pairs


def walk(message: Buffer, most: int) -> Iterator[tuple[int, int, int]]:
    """Of each value, those inside of lists and maps included: the position of its first byte, where its bytes begin
    after their length, and where they end. At most ``most`` values; a damaged message's last may end behind it.
    """
    position = 0
    for _ in range(most):
        if position >= len(message):
            return
        width, rest = SIZES[message[position]]
        start = position + 1 + width
        end = start + rest + (int.from_bytes(message[position + 1 : start]) if width else 0)
        yield position, start, end
        position = end


def map_spans(message: Buffer, most: int) -> list[tuple[int, int]] | None:
    """Where the keys and values of an outermost map begin and end, in turn.

    None if the message is anything else, has more than ``most`` values, or ends before or after the map does.
    """
    if not len(message) or (message[0] not in FIXED_MAPS and message[0] not in MAPS):
        return None
    bounds: list[int] = []
    inside = expected = end = 0
    for position, start, end in walk(message, most):
        head = message[position]
        held = 0  # how many values a list or map holds
        if head in FIXED_MAPS:
            held = 2 * (head & 0x0F)
        elif head in FIXED_LISTS:
            held = head & 0x0F
        elif head in COUNTED:
            held = COUNTED[head] * int.from_bytes(message[start:end])
        if not position:
            expected = held
        elif inside:
            inside += held - 1
        else:
            bounds.append(position)
            inside = held
    if inside or len(bounds) != expected or end != len(message):
        return None
    return list(pairwise([*bounds, end]))


def _sizes(head: int) -> tuple[int, int]:
    """By a value's first byte: how many bytes say its length, and how many follow besides that length.

    The items of a list or map are values of their own.
    """
    if 0xA0 <= head <= 0xBF:  # short text
        return 0, head & 0x1F
    return next((sizes for first, sizes in _runs() if first == head), (0, 0))


def _runs() -> Iterator[tuple[int, tuple[int, int]]]:
    for power in range(4):
        size = 1 << power
        yield 0xCC + power, (0, size)  # unsigned integers
        yield 0xD0 + power, (0, size)  # integers
    for power in range(3):
        size = 1 << power
        yield 0xC4 + power, (size, 0)  # bytes
        yield 0xC7 + power, (size, 1)  # extensions, with their type
        yield 0xD9 + power, (size, 0)  # text
    for power in range(5):
        yield 0xD4 + power, (0, 1 + (1 << power))  # extensions of a fixed size
    for power in range(2):
        size = 4 << power
        yield 0xCA + power, (0, size)  # floats
        yield 0xDC + power, (0, size // 2)  # counts of lists
        yield 0xDE + power, (0, size // 2)  # counts of maps


SIZES = [_sizes(head) for head in range(256)]
