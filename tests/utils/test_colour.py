"""Conversions between YUV and RGB give the right values, neither darker nor brighter on average."""

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from positronic.utils.colour import FULL_RANGE, FromRgb, ToRgb, is_colour_8bit

HEIGHT, WIDTH = 96, 128
# Weights of red and blue in luma: H.273, table 4
WEIGHTS = {2: (0.299, 0.114), 6: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}


def picture(seed=0):
    """Soft shapes and a little noise in all colours, away from black and white, where rounding would be cut off."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(float)
    return (soft * 0.7 + 35 + rng.normal(0, 2, soft.shape)).round().astype(np.uint8)


def exact_rgb(frame, weights, full):
    """The definition in floating point, chroma taken from between its pixels."""
    planes = [
        np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height, : p.width].astype(np.float32)
        for p in frame.planes
    ]
    luma, *chroma = [np.asarray(Image.fromarray(p).resize((WIDTH, HEIGHT), Image.BILINEAR)) for p in planes]
    luma = luma / 255 if full else (luma - 16) / 219
    cb, cr = [(plane - 128) / (255 if full else 224) for plane in chroma]
    red, blue = luma + 2 * (1 - weights[0]) * cr, luma + 2 * (1 - weights[1]) * cb
    green = (luma - weights[0] * red - weights[1] * blue) / (1 - sum(weights))
    return np.clip(np.stack([red, green, blue], -1) * 255, 0, 255)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_every_matrix_and_range_gives_the_defined_colours(matrix, full):
    """To the rounding of one level, whatever the frame says it is; one that says nothing is BT.601."""
    frame = FromRgb().from_array(picture())
    frame.colorspace, frame.color_range = matrix, FULL_RANGE if full else 0
    error = ToRgb().array(frame) - exact_rgb(frame, WEIGHTS[matrix], full)
    assert np.abs(error).max() < 0.6
    assert np.abs(error.mean((0, 1))).max() < 0.02


def test_a_converter_forgets_the_last_frames_matrix():
    """Frames of several matrices may come in one video."""
    frame, converter = FromRgb().from_array(picture()), ToRgb()
    before = converter.array(frame)
    frame.colorspace = 1
    assert not np.array_equal(converter.array(frame), before)
    frame.colorspace = 2
    assert_array_equal(converter.array(frame), before)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "gbrp", "rgb24", "bgr0"])
def test_a_round_trip_is_neither_darker_nor_brighter(pix_fmt):
    """There and back through every 8-bit colour format, the mean of each channel stays."""
    original = picture()
    frame = FromRgb(pix_fmt).from_array(original)
    again = ToRgb().array(frame).astype(float)
    assert np.abs((again - original).mean((0, 1))).max() < 0.05
    if frame.format.is_rgb:
        assert_array_equal(again, original)


@pytest.mark.parametrize("level", [0, 1, 127, 128, 254, 255])
def test_grey_stays_grey(level):
    """Equal channels come back equal, black and white among them."""
    flat = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
    again = ToRgb().array(FromRgb().from_array(flat)).astype(int)
    assert np.ptp(again[0, 0]) == 0
    assert abs(again - level).max() <= 1


@pytest.mark.parametrize("size", [(96, 128), (31, 17), (2, 2)])
def test_image_and_array_hold_the_same_pixels(size):
    """For the bake, which letterboxes images, and for all who want arrays; odd sizes too."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    frame, converter = FromRgb().from_array(pixels), ToRgb()
    assert_array_equal(np.asarray(converter.image(frame)), converter.array(frame))
    again = FromRgb().from_image(Image.fromarray(pixels))
    assert_array_equal(converter.array(again), converter.array(frame))


@pytest.mark.parametrize("pix_fmt", ["gray", "gray12le", "yuv420p10le", "yuva420p", "pal8", "rgb48le", "bayer_rggb8"])
def test_what_is_not_8bit_colour_is_told_apart(pix_fmt):
    """Grey, depth, alpha, palettes and raw sensor data."""
    assert not is_colour_8bit(av.VideoFormat(pix_fmt))
