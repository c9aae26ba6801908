"""Letterboxing: how every vendor's frames reach their size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from positronic.errors import PositronicError


def letterbox_geometry(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int, int, int]:
    """``(height, width, top, left)`` of the picture in the box: the aspect is kept, sizes are truncated, and ``int(rest
    / 2)`` is above.

    Raises PositronicError for a picture without pixels, and for one so narrow that no pixel of it is left in the box.
    """
    if not height or not width:
        raise PositronicError(f"A picture of {height} x {width} (height x width) has no pixels.")
    ratio = max(width / to_width, height / to_height)
    inner_height, inner_width = int(height / ratio), int(width / ratio)
    if not inner_height or not inner_width:
        raise PositronicError(
            f"A picture of {height} x {width} (height x width) is so narrow that no pixel of it is left at"
            f" {to_height} x {to_width}."
        )
    return inner_height, inner_width, int((to_height - inner_height) / 2), int((to_width - inner_width) / 2)


def letterbox(image_hwc: NDArray[np.uint8], to_height: int, to_width: int) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) -> (to_height, to_width, 3), with a black border."""
    if image_hwc.shape[:2] == (to_height, to_width):
        return image_hwc
    return np.asarray(letterbox_image(Image.fromarray(image_hwc), to_height, to_width))


def letterbox_image(image: Image.Image, to_height: int, to_width: int) -> Image.Image:
    """The same on Pillow's RGB image, which the bake has anyway.

    The filter is Pillow's BILINEAR, which is antialiased; OpenCV's is not, and gives other pixels.
    """
    if image.size == (to_width, to_height):
        return image
    height, width, top, left = letterbox_geometry(image.height, image.width, to_height, to_width)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    if resized.size == (to_width, to_height):
        return resized
    box = Image.new("RGB", (to_width, to_height))
    box.paste(resized, (left, top))
    return box
