"""From a decoded frame to a frame that can be encoded, and its histogram, with as few copies as possible."""

from __future__ import annotations

from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from positronic.codecs.features import ImageFeature
from positronic.codecs.images import letterbox_geometry, letterbox_image
from positronic.utils.colour import FromRgb, ToRgb

LEVELS = 256
Histogram = NDArray[np.int64]
"""(3, 256): how often each level occurs in red, green and blue."""


def empty_histogram() -> Histogram:
    """Zeros."""
    return np.zeros((3, LEVELS), np.int64)


class Prepared(NamedTuple):
    """``frame``: in the encoder's pixel format. ``histogram``: of its RGB pixels, including the black border.
    ``picture``: the letterboxed pixels. ``inside`` (left, top, right, bottom): where the black border ends."""

    frame: av.VideoFrame
    histogram: Histogram
    picture: Image.Image
    inside: tuple[int, int, int, int]


class FramePreparer:
    """Prepares the frames of one camera: does what ``ImageFeature.encode`` does, on frames as a decoder gives them.

    The converters are kept, because setting one up costs as much as using it.
    """

    def __init__(self, feature: ImageFeature, pix_fmt: str) -> None:
        self._feature = feature
        self._to_rgb, self._to_encoder = ToRgb(), FromRgb(pix_fmt)

    def picture(self, frame: av.VideoFrame) -> Image.Image:
        """The letterboxed RGB image: the pixels of ``feature.encode`` of the frame's RGB array."""
        return letterbox_image(self._to_rgb.image(frame), self._feature.height, self._feature.width)

    def prepare(self, frame: av.VideoFrame) -> Prepared:
        """One decoded frame, of any format and size."""
        picture = self.picture(frame)
        counts = np.fromiter(picture.histogram(), np.int64, 3 * LEVELS).reshape(3, LEVELS)
        return Prepared(self._to_encoder.from_image(picture), counts, picture, self._inside(frame))

    def _inside(self, frame: av.VideoFrame) -> tuple[int, int, int, int]:
        """The picture without the black around it: left, top, right, bottom."""
        to_height, to_width = self._feature.height, self._feature.width
        height, width, top, left = letterbox_geometry(frame.height, frame.width, to_height, to_width)
        return left, top, left + width, top + height
