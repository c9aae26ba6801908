"""What goes into the encoder is what a live policy sees."""

from itertools import pairwise

import av
import numpy as np
import pytest

from positronic import keys
from positronic.bake.frames import FramePreparer
from positronic.codecs.features import image_feature
from positronic.raw.video import to_rgb

SIZES = [(24, 40), (40, 24), (32, 32), (31, 17), (64, 64), (240, 320)]


def decoded(height, width, seed=0):
    """A frame as a decoder gives it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_prepared_picture_is_the_codecs(height, width):
    """The pixels are those of the codec's encoding of the frame's RGB array, bit for bit."""
    feature, frame = image_feature("wrist", 32, 32), decoded(height, width)
    picture = FramePreparer(feature, "yuv420p").picture(frame)
    np.testing.assert_array_equal(np.asarray(picture), feature.encode(to_rgb(frame)))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_histogram_counts_every_pixel_of_the_box(height, width):
    """Per channel, the black around included."""
    feature, frame = image_feature("wrist", 32, 32), decoded(height, width)
    histogram = FramePreparer(feature, "yuv420p").prepare(frame).histogram
    pixels = feature.encode(to_rgb(frame))
    for channel in range(3):
        np.testing.assert_array_equal(histogram[channel], np.bincount(pixels[..., channel].ravel(), minlength=256))


def test_frames_of_one_camera_do_not_share_pixels():
    """A preparer keeps converters, not pictures."""
    preparer = FramePreparer(image_feature("wrist", 32, 32), "yuv420p")
    frames = [preparer.prepare(decoded(24, 40, seed)).frame for seed in range(3)]
    arrays = [frame.to_ndarray() for frame in frames]
    assert not any(np.array_equal(a, b) for a, b in pairwise(arrays))


def test_every_frame_of_a_recording_prepares_to_what_is_observed_live(published, recipe):
    """On published recordings: the baked picture equals the codec's encoding of that observation."""
    episode, codec = published[0], recipe("ee").codec
    (image,) = [image for image in codec.images if image.signal == keys.IMAGE_WRIST]
    signal, preparer = episode[image.signal], FramePreparer(image, "yuv420p")
    indices = range(0, len(signal.times_ns), 7)
    for frame, pixels in zip(signal.av_frames(indices), signal.frames(indices), strict=True):
        np.testing.assert_array_equal(np.asarray(preparer.picture(frame)), image.encode(pixels))
