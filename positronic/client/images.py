"""Images before they are sent: shrunk to the size that the server's policy uses anyway, and as JPEG where asked for."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.utils.serialization import FRAMES, JPEG, NDIM


def shrink_images(observation: Mapping[str, Any], image_sizes: Any) -> dict[str, Any]:
    """A copy with its top-level RGB images (uint8, height x width x 3) shrunk to the server's ``image_sizes``.

    These are ``[width, height]`` for every image, ``{key: [width, height]}``, or None. Aspect is kept, nothing
    grows, and the pixels are those that the server's own letterbox would make. Without Pillow images travel whole.
    """
    if not image_sizes or not _has_pillow():
        return dict(observation)
    return {key: _shrink(value, _size_for(key, image_sizes)) for key, value in observation.items()}


def compress_images(observation: Mapping[str, Any], quality: int) -> dict[str, Any]:
    """A copy with its top-level RGB images (uint8, height x width x 3) as JPEG, ``quality`` 1 to 100."""
    return {key: _as_jpeg(value, quality) if _is_image(value) else value for key, value in observation.items()}


def require_jpeg(quality: int | None) -> None:
    """Raise PositronicError when images are to be sent as JPEG and cannot be, or of no such quality."""
    if quality is None:
        return
    if not 1 <= quality <= 100:
        raise PositronicError(f"policy.jpeg_quality={quality}: expected a number from 1 to 100.")
    if not _has_pillow():
        raise PositronicError(
            f"policy.jpeg_quality={quality} needs Pillow where the robot is: `pip install pillow`, or leave it out."
        )


def are_sizes(image_sizes: Any) -> bool:
    """Whether a server's ``image_sizes`` is what ``shrink_images`` takes."""
    sizes = list(image_sizes.values()) if isinstance(image_sizes, Mapping) else [image_sizes]
    return all(not size or _is_size(size) for size in sizes)


def _is_size(size: Any) -> bool:
    return isinstance(size, list) and len(size) == 2 and all(isinstance(n, int | float) and n >= 1 for n in size)


def shrunk_size(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int]:
    """``(height, width)`` inside the box, by the codecs' letterbox rule: one ratio, truncated to whole pixels.

    An image that fits, or that rounding would leave a pixel short of the box (so that it would grow again on the
    server), keeps its size.
    """
    ratio = max(height / to_height, width / to_width)
    inner_height, inner_width = int(height / ratio), int(width / ratio)
    touches = inner_height == to_height or inner_width == to_width
    return (inner_height, inner_width) if ratio > 1 and touches and inner_height and inner_width else (height, width)


def _size_for(key: str, image_sizes: Any) -> tuple[int, int] | None:
    size = image_sizes.get(key) if isinstance(image_sizes, Mapping) else image_sizes
    return (int(size[0]), int(size[1])) if size else None


def _shrink(value: Any, size: tuple[int, int] | None) -> Any:
    if size is None or not _is_image(value):
        return value
    height, width = value.shape[:2]
    to_height, to_width = shrunk_size(height, width, size[1], size[0])
    return value if (to_height, to_width) == (height, width) else _resize(value, to_height, to_width)


def _is_image(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3


def _has_pillow() -> bool:
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return False
    return True


def _resize(image_hwc: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(image_hwc).resize((width, height), Image.Resampling.BILINEAR))


def _as_jpeg(image_hwc: NDArray[np.uint8], quality: int) -> dict[bytes, Any]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image_hwc)).save(file, "JPEG", quality=quality)
    return {JPEG: True, FRAMES: [file.getvalue()], NDIM: 3}
