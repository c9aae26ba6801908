"""What goes into the encoder is what a live policy sees."""

from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from positronic import keys
from positronic.bake.config import VideoConfig
from positronic.bake.frame_source import VideoFile
from positronic.bake.frames import FramePreparer
from positronic.bake.video import piece_writer
from positronic.codecs.features import image_feature
from positronic.raw.episode import Episode
from positronic.raw.video_writer import VideoOptions
from positronic.raw.writer import DatasetWriter
from positronic.utils.colour import ToRgb

FRAMES = 6
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
    np.testing.assert_array_equal(np.asarray(picture), feature.encode(ToRgb().array(frame)))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_histogram_counts_every_pixel_of_the_box(height, width):
    """Per channel, the black around included."""
    feature, frame = image_feature("wrist", 32, 32), decoded(height, width)
    histogram = FramePreparer(feature, "yuv420p").prepare(frame).histogram
    pixels = feature.encode(ToRgb().array(frame))
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


def test_training_sees_the_colours_that_a_live_policy_sees(tmp_path):
    """Recorded, baked and decoded for training: no channel is darker or brighter on average than the live picture.

    Without loss in the encoder, as H.264 rounds up where it predicts: that is its share, not the conversions'.
    """
    rng, feature = np.random.default_rng(0), image_feature("wrist", 224, 224)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((320, 240), Image.BICUBIC)
    live = (np.asarray(coarse) * 0.7 + 35 + rng.normal(0, 2, (240, 320, 3))).astype(np.uint8)
    with DatasetWriter(tmp_path / "raw", VideoOptions(crf=0)).new_episode() as writer:
        for k in range(FRAMES):
            writer.append("wrist", np.roll(live, k, axis=1), k)
    preparer, signal = FramePreparer(feature, "yuv420p"), Episode(writer.path)["wrist"]
    with piece_writer(tmp_path / "piece.mp4", 224, 224, 15, VideoConfig(crf=0)) as piece:
        for prepared in signal.frames_as(range(FRAMES), preparer.prepare):
            piece.write(prepared.frame)
    with VideoFile(tmp_path / "piece.mp4", 15) as video:
        trained = np.stack(list(video.frames(0, FRAMES))).astype(float)
    seen = np.stack([feature.encode(np.roll(live, k, axis=1)) for k in range(FRAMES)])
    assert np.abs((trained - seen).mean((0, 1, 2))).max() < 0.1
