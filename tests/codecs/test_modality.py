"""A codec of several arms and any cameras as a vendor's columns; nothing takes another's place."""

import pytest

import positronic
from positronic.codecs.build import build
from positronic.embodiments.config import ArmConfig, EmbodimentConfig
from positronic.embodiments.embodiment import build_embodiment
from positronic.errors import PositronicError

CAMERAS = {"top": "exterior", "hand": "wrist"}


def recipe(*typed, vendor="lerobot", arms=("left", "right"), cameras=CAMERAS):
    config = positronic.compose(
        ["stage=convert", f"vendor={vendor}", "codec=joints_cmd", "dataset.path=unused", *typed]
    )
    joints = {name: ArmConfig(joints=["a", "b"]) for name in arms}
    robot = build_embodiment(EmbodimentConfig("mine", arms=joints, cameras=cameras))
    return build(config.codec, config.modality, embodiment=robot)


def columns(*typed, **robot):
    return {
        column.name: [source.name for source in column.sources] for column in recipe(*typed, **robot).modality.columns
    }


def test_a_camera_is_given_a_column_on_the_command_line():
    """As the refusal of a camera without a slot says."""
    typed = "modality.columns={observation.images.hand: [image.hand]}"
    found = columns(typed)
    assert found["observation.images.hand"] == ["image.hand"]
    assert found["observation.images.side"] == ["image.top"]


def test_a_role_is_given_a_slot_on_the_command_line():
    found = columns("modality.cameras={desk: observation.images.desk}", cameras={"top": "exterior", "low": "desk"})
    assert found["observation.images.desk"] == ["image.low"]


def test_a_camera_does_not_overwrite_one_that_was_given_its_slot():
    """Two columns of one name would be one, with the pictures of either."""
    with pytest.raises(PositronicError, match=r"'observation\.images\.side': image\.hand and image\.top\. Name one"):
        recipe("modality.columns={observation.images.side: [image.hand]}")


def test_two_columns_of_one_name_are_refused():
    """Here the arms' own columns are called as one that was typed."""
    with pytest.raises(PositronicError, match=r"Two columns of the modality are called 'left_grip'"):
        recipe("modality.columns={left_grip: [image.top]}", vendor="gr00t")
