"""Frames of other recordings as uint8 RGB, height x width x 3."""

from __future__ import annotations

import io

import numpy as np

from positronic.errors import PositronicError

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
RGB, BGR = "rgb", "bgr"
ORDERS = (RGB, BGR)
MODES = ("L", "RGB")  # what Pillow calls 8 bits of grey and of colour; others would lose what they hold
MONO8 = "mono8"
PIXELS = {"rgb8": (3, RGB), "bgr8": (3, BGR), "rgba8": (4, RGB), "bgra8": (4, BGR), MONO8: (1, RGB)}
"""ROS's names of encodings that are taken: channels and their order."""


def is_encoded(data: bytes | np.ndarray) -> str | None:
    """``jpeg`` or ``png`` by the first bytes; None for anything else."""
    head = bytes(data[: len(PNG)])
    return "jpeg" if head.startswith(JPEG) else "png" if head == PNG else None


def decode(data: bytes | np.ndarray, where: str, order: str = RGB) -> np.ndarray:
    """A JPEG or PNG, as uint8 RGB. Zeros behind its end do no harm.

    ``order``: ``bgr`` if red and blue were swapped before it was encoded. Raises PositronicError, with ``where``, for
    data that is neither, is damaged, or has more than 8 bits or an alpha channel.
    """
    from PIL import Image

    if is_encoded(data) is None:
        raise PositronicError(f"{where}: neither a JPEG nor a PNG; it begins with {bytes(data[:4]).hex(' ')}.")
    try:
        with Image.open(io.BytesIO(bytes(data))) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a broken PNG a SyntaxError
        raise PositronicError(f"{where}: a damaged picture ({error}).") from None
    if image.mode not in MODES:
        raise PositronicError(
            f"{where}: pixels of Pillow's mode {image.mode}; expected 8 bits of grey or RGB (depth is not imported)."
        )
    return in_rgb(np.asarray(image.convert("RGB")), order)


def in_rgb(pixels: np.ndarray, order: str) -> np.ndarray:
    """Pixels (H, W, 3) whose channels are in ``order``, as RGB in an array of its own."""
    return np.ascontiguousarray(pixels[..., ::-1] if order == BGR else pixels)


def unpack(data: np.ndarray, height: int, width: int, step: int, encoding: str, where: str) -> np.ndarray:
    """Pixels of a ROS image: rows of ``step`` bytes, whose end may be padding. Raises PositronicError for an encoding
    that is not in ``PIXELS``, and for data that is too short."""
    if encoding not in PIXELS:
        raise PositronicError(f"{where}: encoding '{encoding}'; known are {', '.join(PIXELS)}.")
    channels, order = PIXELS[encoding]
    if step < width * channels or len(data) < height * step:
        raise PositronicError(
            f"{where}: {len(data)} bytes in rows of {step} are no {height} x {width} pixels of {encoding}."
        )
    rows = np.asarray(data[: height * step], np.uint8).reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)
    return np.repeat(pixels, 3, axis=2) if channels == 1 else in_rgb(pixels[..., :3], order)
