"""The one conversion between video frames and RGB, the same for recording, baking, training and viewing.

libswscale's default conversion to RGB rounds down: pictures become 1.0, 1.5 and 1.0 levels too dark in red, green and
blue, and each further conversion adds to that. A policy would be trained on darker pictures than it sees live. The
settings here err by less than a twentieth of a level on average, at five times the cost of the default. Planar RGB
(gbrp) is faster and more exact there than packed RGB, whose chroma is off by half a pixel.

Frames that do not name their matrix are BT.601, whatever their size, because recordings are written so, here and by the
published package. A frame that names another matrix (BT.709, BT.2020) is converted by that one, and a full-range frame
as full range.
"""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

# libswscale/swscale.h
_BILINEAR, _AREA = 0x2, 0x20
_FULL_CHROMA_OUT, _FULL_CHROMA_IN, _ACCURATE_RND = 0x2000, 0x4000, 0x40000
TO_RGB = _BILINEAR | _FULL_CHROMA_OUT | _ACCURATE_RND
FROM_RGB = _AREA | _FULL_CHROMA_IN | _ACCURATE_RND

# libavutil/pixfmt.h: AVCOL_SPC_* and AVCOL_RANGE_JPEG. libswscale names matrices by the same numbers.
BT601, BT709 = 6, 1
TAKEN_AS_BT601 = (2, 5)  # unnamed; and BT.601's other number, which PyAV takes for "as before"
MATRICES = frozenset({1, 2, 4, 5, 6, 7, 9})  # BT.709, unnamed, FCC, BT.601 twice, SMPTE 240M, BT.2020
FULL_RANGE = 2


class ToRgb:
    """Converts frames of one video. Keep it, because setting up a converter costs as much as using it."""

    def __init__(self) -> None:
        self._planar, self._packed = VideoReformatter(), VideoReformatter()

    def array(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """RGB, uint8 (H, W, 3), of a frame in any colour format."""
        return self._packed.reformat(self._planes(frame), format="rgb24").to_ndarray()

    def image(self, frame: av.VideoFrame) -> Image.Image:
        """The same pixels as an image."""
        planes, size = self._planes(frame).planes, (frame.width, frame.height)
        green, blue, red = (Image.frombuffer("L", size, plane, "raw", "L", plane.line_size, 1) for plane in planes)
        return Image.merge("RGB", (red, green, blue))

    def _planes(self, frame: av.VideoFrame) -> av.VideoFrame:
        if frame.format.name == "gbrp":
            return frame
        matrix = BT601 if frame.colorspace in TAKEN_AS_BT601 else frame.colorspace
        return self._planar.reformat(
            frame,
            format="gbrp",
            interpolation=TO_RGB,
            src_colorspace=matrix,
            dst_colorspace=BT601 if matrix == BT709 else BT709,  # unused, but another, or PyAV ignores the source's
            src_color_range=FULL_RANGE if is_full_range(frame) else None,
        )


class FromRgb:
    """Converts pictures to the pixel format of an encoder, by BT.601, which is left unnamed. Keep it, as ``ToRgb``."""

    def __init__(self, pix_fmt: str = "yuv420p") -> None:
        self._pix_fmt, self._reformatter = pix_fmt, VideoReformatter()

    def from_array(self, image_hwc: NDArray[np.uint8]) -> av.VideoFrame:
        """RGB, uint8 (H, W, 3)."""
        return self._convert(av.VideoFrame.from_ndarray(np.ascontiguousarray(image_hwc), format="rgb24"))

    def from_image(self, image: Image.Image) -> av.VideoFrame:
        """An RGB image."""
        return self._convert(av.VideoFrame.from_image(image))

    def _convert(self, frame: av.VideoFrame) -> av.VideoFrame:
        return self._reformatter.reformat(frame, format=self._pix_fmt, interpolation=FROM_RGB)


def keeps_colours(pix_fmt: str, decoded: av.VideoFrame) -> bool:
    """Whether what ``FromRgb(pix_fmt)`` gave an encoder has its colours when it comes back as ``decoded``.

    This is not so in grey, and if the encoder was told to name another matrix or range than that of the pictures.
    """
    written = av.VideoFormat(pix_fmt)
    if len(written.components) < 3 or written.is_rgb != decoded.format.is_rgb:
        return False
    same_matrix = written.is_rgb or decoded.colorspace in (*TAKEN_AS_BT601, BT601)
    return same_matrix and (written.is_rgb or is_full_range(decoded) == pix_fmt.startswith("yuvj"))


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether black is 0 in its planes, not 16."""
    return frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")


def has_known_matrix(frame: av.VideoFrame) -> bool:
    """Whether the way from its planes to RGB is known."""
    return frame.format.is_rgb or frame.colorspace in MATRICES


def is_colour_8bit(pix_fmt: av.VideoFormat) -> bool:
    """Whether a pixel is three numbers of eight bits: no grey, depth, palette, alpha or raw sensor picture."""
    bits = [component.bits for component in pix_fmt.components]
    return bits == [8, 8, 8] and not pix_fmt.has_palette
