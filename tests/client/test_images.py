import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from positronic.client.images import shrink_images, shrunk_size
from positronic.codecs.images import letterbox
from positronic.errors import PositronicError

SIZES = st.integers(1, 90)


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(1, 40), st.integers(1, 40))
def test_the_policy_sees_the_same_pixels_with_and_without_shrinking(height, width, to_height, to_width):
    """letterbox(shrunk) == letterbox(original), byte for byte, for every size."""
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, 3), np.uint8)
    try:
        whole = letterbox(image, to_height, to_width)
    except PositronicError:
        return  # a sliver that the box cannot hold
    shrunk = shrink_images({"x": image}, [to_width, to_height])["x"]
    np.testing.assert_array_equal(letterbox(shrunk, to_height, to_width), whole)


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [((480, 640), (224, 224), (168, 224)), ((640, 480), (224, 224), (224, 168)), ((100, 200), (224, 224), (100, 200))],
)
def test_aspect_is_kept_and_nothing_grows(size, box, expected):
    """640 x 480 becomes 224 x 168; a small image stays."""
    assert shrunk_size(*size, *box) == expected


def test_only_top_level_rgb_images_shrink():
    """Depth maps, stacks, float images and lists travel as they are."""
    others = {
        "depth": np.zeros((480, 640), np.uint8),
        "stack": np.zeros((2, 480, 640, 3), np.uint8),
        "float": np.zeros((480, 640, 3), np.float32),
        "list": [[[0, 0, 0]]],
        "grip": 0.5,
    }
    shrunk = shrink_images(others, [64, 64])
    assert all(shrunk[key] is value for key, value in others.items())


def test_sizes_can_be_given_for_each_image():
    """A map of sizes touches only its keys."""
    image = np.zeros((240, 320, 3), np.uint8)
    shrunk = shrink_images({"image.wrist": image, "image.exterior": image}, {"image.wrist": [32, 32]})
    assert shrunk["image.wrist"].shape == (24, 32, 3)
    assert shrunk["image.exterior"] is image
