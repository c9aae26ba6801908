"""Pictures of other recordings become RGB, or are refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from positronic.errors import PositronicError
from positronic.importing.pictures import BGR, decode, is_encoded, unpack

RED = np.full((4, 6, 3), (200, 30, 10), np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    return file.getvalue()


def test_a_png_is_the_pixels_that_went_in():
    assert (decode(encoded(RED), "frame") == RED).all()


def test_a_jpeg_filled_up_with_zeros_is_read_to_its_own_end():
    """As ALOHA's files hold them, in rows of one length."""
    row = np.frombuffer(encoded(RED, "JPEG") + bytes(100), np.uint8)
    assert np.abs(decode(row, "frame").astype(int) - RED).max() <= 3


def test_bgr_says_that_red_and_blue_were_swapped_before_encoding():
    assert (decode(encoded(RED[..., ::-1]), "frame", BGR) == RED).all()


def test_grey_becomes_three_equal_channels():
    assert (decode(encoded(RED[..., 0]), "frame") == 200).all()


@pytest.mark.parametrize("pixels", [np.zeros((4, 6), np.uint16), np.zeros((4, 6, 4), np.uint8)])
def test_depth_and_transparency_are_refused(pixels):
    """They would lose bits, or a channel."""
    with pytest.raises(PositronicError, match="frame 3: pixels of Pillow's mode"):
        decode(encoded(pixels), "frame 3")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_that_is_cut_off_is_refused(kind):
    whole = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), kind)
    with pytest.raises(PositronicError, match="frame 3: a damaged picture"):
        decode(whole[: len(whole) // 2], "frame 3")


def test_other_bytes_are_no_picture():
    assert is_encoded(b"GIF89a") is None
    with pytest.raises(PositronicError, match="neither a JPEG nor a PNG; it begins with 47 49 46 38"):
        decode(b"GIF89a", "frame")


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", RED),
        ("bgr8", RED[..., ::-1]),
        ("rgba8", np.concatenate([RED, RED[..., :1]], axis=2)),
        ("bgra8", np.concatenate([RED[..., ::-1], RED[..., :1]], axis=2)),
    ],
)
def test_the_encodings_of_ros_become_rgb_with_or_without_padding(encoding, stored):
    """Rows may be longer than their pixels."""
    rows = stored.reshape(4, -1)
    padded = np.concatenate([rows, np.full((4, 5), 99, np.uint8)], axis=1)
    for each in (rows, padded):
        assert (unpack(each.ravel(), 4, 6, each.shape[1], encoding, "image") == RED).all()


def test_mono8_becomes_three_equal_channels():
    grey = np.arange(24, dtype=np.uint8)
    assert (unpack(grey, 4, 6, 6, "mono8", "image") == grey.reshape(4, 6, 1)).all()


def test_an_encoding_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(PositronicError, match="'16UC1'; known are rgb8, bgr8, rgba8, bgra8, mono8"):
        unpack(np.zeros(48, np.uint8), 4, 6, 12, "16UC1", "image")


def test_too_few_bytes_are_refused():
    with pytest.raises(PositronicError, match="70 bytes in rows of 18 are no 4 x 6 pixels of rgb8"):
        unpack(np.zeros(70, np.uint8), 4, 6, 18, "rgb8", "image")
