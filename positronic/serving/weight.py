"""Whether a frame is quick to read, whatever its bytes mean: then the thread that answers reads it itself.

Handing a frame to another thread and back costs more than reading an honest one. What reading costs grows with the
frame's bytes and with the values in them; only JPEG pictures may become far more than they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from positronic.utils.serialization import JPEG

LIGHT_BYTES = 1 << 20  # three raw pictures of 224 x 224 are half of it
LIGHT_VALUES = 256  # an array and its key are about 12


def is_light(frame: bytes) -> bool:
    """Whether a frame is small, of few values, and without JPEG pictures. Also true of noise that ends early."""
    if len(frame) > LIGHT_BYTES:
        return False
    position = 0
    for _ in range(LIGHT_VALUES):
        if position >= len(frame):
            return True
        width, rest = SIZES[frame[position]]
        start = position + 1 + width
        position = start + rest + int.from_bytes(frame[position + 1 : start])
        if position - start == len(JPEG) and frame[start:position] == JPEG:
            return False
    return position >= len(frame)


def _sizes(head: int) -> tuple[int, int]:
    """By a msgpack value's first byte: how many bytes say its length, and how many follow besides that length.

    The items of a list or map are values of their own. The specification: github.com/msgpack/msgpack, spec.md.
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
