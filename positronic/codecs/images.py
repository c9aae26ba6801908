"""Letterboxing: how every vendor's frames reach their size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def letterbox_geometry(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int, int, int]:
    """``(height, width, top, left)`` of the picture in the box: aspect kept, truncated, ``int(rest / 2)`` above."""
    ratio = max(width / to_width, height / to_height)
    inner_height, inner_width = int(height / ratio), int(width / ratio)
    return inner_height, inner_width, int((to_height - inner_height) / 2), int((to_width - inner_width) / 2)


def letterbox(image_hwc: NDArray[np.uint8], to_height: int, to_width: int) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) -> (to_height, to_width, 3), black around.

    Pillow's BILINEAR, which is antialiased; OpenCV's is not, and gives other pixels.
    """
    height, width = image_hwc.shape[:2]
    if (height, width) == (to_height, to_width):
        return image_hwc
    inner_height, inner_width, top, left = letterbox_geometry(height, width, to_height, to_width)
    resized = Image.fromarray(image_hwc).resize((inner_width, inner_height), Image.Resampling.BILINEAR)
    if (inner_height, inner_width) == (to_height, to_width):
        return np.asarray(resized)
    box = np.zeros((to_height, to_width, 3), np.uint8)
    box[top : top + inner_height, left : left + inner_width] = resized
    return box
