"""Whether a frame is quick to read, whatever its bytes mean: then the thread that answers reads it itself.

Handing a frame to another thread and back costs more than reading an honest one. What reading costs grows with the
frame's bytes and with the values in them; only JPEG pictures may become far more than they are.
"""

from __future__ import annotations

from positronic.utils.msgpack_walk import Buffer, walk
from positronic.utils.serialization import FEW_VALUES, JPEG

LIGHT_BYTES = 1 << 20  # three raw pictures of 224 x 224 are half of it


def is_light(frame: Buffer) -> bool:
    """Whether a frame is small, of few values, and without JPEG pictures. Also true of noise that ends early."""
    if len(frame) > LIGHT_BYTES:
        return False
    end = 0
    for _, start, end in walk(frame, FEW_VALUES):
        if end - start == len(JPEG) and frame[start:end] == JPEG:
            return False
    return end >= len(frame)
