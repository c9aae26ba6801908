"""Pictures (..., H, W, C): letterboxed by whole pixels here, not smoothly."""

import numpy as np


def resize_with_pad(images: np.ndarray, height: int, width: int, method: int | None = None) -> np.ndarray:
    found = images.shape[-3:-1]
    if found == (height, width):
        return images
    ratio = max(found[1] / width, found[0] / height)
    size = int(found[0] / ratio), int(found[1] / ratio)
    rows, columns = (np.arange(count) * each // count for count, each in zip(size, found, strict=True))
    out = np.zeros((*images.shape[:-3], height, width, images.shape[-1]), images.dtype)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    out[..., top : top + size[0], left : left + size[1], :] = images[..., rows[:, None], columns, :]
    return out
