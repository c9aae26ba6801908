"""A codec of several arms and any cameras as a vendor's columns; nothing takes another's place."""

import re

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
    with pytest.raises(PositronicError, match=r"hand, top .*both go to column 'observation\.images\.side'"):
        recipe("modality.columns={observation.images.side: [image.hand]}")


def test_two_columns_of_one_name_are_refused():
    """Here the arms' own columns are called as one that was typed."""
    with pytest.raises(PositronicError, match=r"Two columns of the modality are called 'left_grip'"):
        recipe("modality.columns={left_grip: [image.top]}", vendor="gr00t")


def test_a_model_with_three_slots_refuses_a_fourth_camera_with_the_number_and_what_to_type():
    """Each way that the sentence names is one."""
    four = CAMERAS | {"low": "desk", "above": "ceiling"}
    with pytest.raises(PositronicError) as refused:
        recipe(vendor="openpi", cameras=four)
    said = str(refused.value)
    assert "Camera 'low' of embodiment=mine is in the role 'desk', and this vendor's model takes 3 cameras, " in said
    assert "observation.images.left (wrist or left_wrist)" in said
    left_out, typed = re.findall(r"codec\.images=\[[\w,]+\]|modality\.columns=\{[^}]+\}", said)
    assert left_out == "codec.images=[top,hand,above]"
    three = CAMERAS | {"low": "desk"}
    assert columns(typed, vendor="openpi", cameras=three)["observation.images.right"] == ["image.low"]
    with pytest.raises(PositronicError, match=r"Camera 'above' .*Leave out above: codec.images=\[top,hand,low\]\.$"):
        recipe(typed, vendor="openpi", cameras=four)


def test_a_column_where_the_model_does_not_look_is_refused():
    """It would be baked and never seen."""
    with pytest.raises(PositronicError, match=r"takes 3 cameras, .*Did you mean 'observation\.images\.left'\?"):
        recipe("modality.columns={observation.images.lefd: [image.top]}", vendor="openpi")


def test_two_cameras_of_one_slot_are_refused_with_a_column_that_is_free():
    """By their roles, a wrist and a left wrist go to the same place."""
    cameras = {"near": "wrist", "hand": "left_wrist"}
    with pytest.raises(
        PositronicError, match=r"hand, near .*'modality\.columns=\{observation\.images\.side: "
    ) as refused:
        recipe(vendor="openpi", cameras=cameras)
    (typed,) = re.findall(r"modality\.columns=\{[^}]+\}", str(refused.value))
    assert columns(typed, vendor="openpi", cameras=cameras)["observation.images.side"] == ["image.hand"]


@pytest.mark.parametrize(("vendor", "most"), [("openpi", 32), ("gr00t", 132)])
def test_more_numbers_than_a_vendor_s_model_takes_are_refused_with_both(vendor, most):
    """Composing is enough, if the robot is typed; one arm less is taken."""
    arms = tuple(f"arm{number}" for number in range(most // 3 + 1))
    recipe(vendor=vendor, arms=arms[:-1])
    with pytest.raises(PositronicError, match=rf"has {most // 3 * 3 + 3} numbers in its state.* takes {most} at most"):
        recipe(vendor=vendor, arms=arms)
    typed = ["embodiment=aloha", "codec=joints_cmd", f"vendor={vendor}", f"modality.max_action_size={14 - 1}"]
    with pytest.raises(PositronicError, match=r"embodiment=aloha has 14 numbers in its action.* takes 13 at most"):
        positronic.compose(["stage=convert", "dataset.path=unused", *typed])


@pytest.mark.parametrize("typed", ["modality.columns.o.i.top=[image.top]", "modality.columns={o.i.top: image.top}"])
def test_columns_typed_otherwise_are_refused_with_the_way_that_works(typed):
    """Their names hold dots, which part keys elsewhere."""
    with pytest.raises(PositronicError, match=r"Type '(modality\.columns=\{o\.i\.top: \[image\.top\]\})'\.") as refused:
        recipe(typed)
    (meant,) = re.findall(r"Type '(.*)'\.", str(refused.value))
    assert columns(meant)["o.i.top"] == ["image.top"]


def test_a_column_whose_name_holds_no_dot_is_typed_like_any_value():
    assert columns("modality.columns.top=[image.top]")["top"] == ["image.top"]
