"""What a robot is, as a value: every shipped file describes one, and two are compared by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from positronic import keys
from positronic.embodiments.config import FROM_DATA, ArmConfig, EmbodimentConfig
from positronic.embodiments.embodiment import Embodiment, build_embodiment, require_same_embodiment
from positronic.embodiments.published import FRANKA
from positronic.errors import ConventionError, PositronicError

CONF = Path(__file__).parents[2] / "conf" / "embodiment"
SHIPPED = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != FROM_DATA)


def shipped(name):
    values = OmegaConf.load(CONF / f"{name}.yaml")
    bases = [base for base in values.pop("defaults", []) if base != "_self_"]
    merged = OmegaConf.merge(
        OmegaConf.structured(EmbodimentConfig), *(OmegaConf.load(CONF / f"{base}.yaml") for base in bases), values
    )
    return build_embodiment(OmegaConf.to_object(merged))


def arm(**fields):
    return ArmConfig(**{"joints": ["a", "b"]} | fields)


def config(**fields):
    return EmbodimentConfig(**{"name": "mine", "arms": {"arm": arm()}, "cameras": {"front": "exterior"}} | fields)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_embodiment_comes_back_from_json_as_it_was(name):
    embodiment = shipped(name)
    assert embodiment.name == name
    assert Embodiment.from_dict(json.loads(json.dumps(embodiment.to_dict()))) == embodiment


def test_recordings_that_say_nothing_are_of_the_shipped_franka():
    assert shipped("franka") == FRANKA


def test_the_keys_of_an_only_arm_are_plain_and_those_of_two_carry_their_names():
    assert [a.key(keys.JOINT_POSITION) for a in shipped("so101").arms] == [keys.JOINT_POSITION]
    assert [a.key(keys.GRIP) for a in shipped("aloha").arms] == ["grip.left", "grip.right"]
    assert shipped("aloha").arms[1].key(keys.ROBOT_COMMAND) == "robot_command.right"


@pytest.mark.parametrize("plain", sorted({*keys.PER_ARM, keys.ROBOT_COMMAND}))
def test_an_arms_key_is_split_into_what_it_was_made_of(plain):
    assert keys.split_arm(keys.of_arm(plain, "left")) == (plain, "left")
    assert keys.split_arm(plain) == (plain, "")


@pytest.mark.parametrize("other", ["image.left", "robot_commands.mode.type", "robot_state.error", "task"])
def test_a_key_that_no_arm_has_is_not_split(other):
    assert keys.split_arm(other) == (other, "")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"arms": {}}, "it has no arm"),
        ({"arms": {"arm": arm(joints=[])}}, "arm 'arm' has no joints"),
        ({"arms": {"arm": arm(joints=["a", "a"])}}, "two joints 'a'"),
        ({"arms": {"left.1": arm(), "right": arm()}}, "an arm is called 'left.1'"),
        ({"arms": {"arm": arm(upper=[1.0])}}, "upper has 1 numbers for 2 joints"),
        ({"arms": {"arm": arm(unit="deg")}}, "arm.unit is deg; expected rad"),
        ({"arms": {"arm": arm(lower=[0, 1], upper=[1, None])}, "cameras": {"../x": "exterior"}}, "camera '../x'"),
        ({"arms": {"arm": arm(lower=[0, 1], upper=[1, 1])}}, "joint 'b' goes from 1 to 1"),
        ({"arms": {"arm": arm(max_speed=[1, 0])}}, "max_speed of joint 'b' is 0"),
        ({"cameras": {"front": " "}}, "camera 'front' has the role ' '"),
        ({"cameras": {"front": "a/b"}}, "camera 'front' has the role 'a/b'"),
        ({"cameras": {"front": "exterior", "side": "exterior"}}, "cameras front, side have one role, exterior"),
    ],
)
def test_a_config_that_describes_no_robot_is_refused(fields, found):
    with pytest.raises(PositronicError, match=f"embodiment=mine: .*{found}"):
        build_embodiment(config(**fields))


@pytest.mark.parametrize(
    ("theirs", "row"),
    [
        ({"arms": {"arm": arm(joints=["b", "a"])}}, "arm: joints: mine has 2: a, b; theirs has 2: b, a"),
        ({"arms": {"arm": arm(joints=["a", "b", "c"])}}, "theirs has 3: a, b, c"),
        ({"arms": {"arm": arm(gripper=None)}}, "arm: gripper: mine has 0=open 1=closed; theirs has none"),
        ({"arms": {"arm": arm(ee_frame="flange")}}, "mine has of tool in robot_base; theirs has of flange in"),
        ({"arms": {"left": arm(), "right": arm()}}, "arm left: joints: mine has none"),
        ({"cameras": {"front": "wrist"}}, "camera front: mine has exterior; theirs has wrist"),
        ({"cameras": {}}, "camera front: mine has exterior; theirs has none"),
    ],
)
def test_a_difference_is_refused_with_both_sides(theirs, row):
    mine, other = build_embodiment(config()), build_embodiment(config(**theirs))
    with pytest.raises(ConventionError, match=row):
        require_same_embodiment("mine", mine.contract(), "theirs", other.contract(), "Take the same.")


def test_a_camera_that_nobody_asks_for_and_another_name_are_no_difference():
    mine = build_embodiment(config())
    theirs = replace(mine, name="theirs", cameras={**mine.cameras, "top": "exterior_2"})
    require_same_embodiment("mine", mine.contract(), "theirs", theirs.contract(), "")


def test_an_arm_that_would_be_told_nothing_is_a_difference():
    one, two = build_embodiment(config()), build_embodiment(config(arms={"left": arm(), "right": arm()}))
    with pytest.raises(ConventionError, match="arm right: joints"):
        require_same_embodiment("mine", one.contract(), "theirs", two.contract(), "")


@pytest.mark.parametrize(
    "arms",
    [
        {"arm": {"jnts": []}},
        {"arm": {"joints": ["a"], "gripper": None, "lower": ["low"]}},
        {"arm": {"joints": [1, 2], "gripper": None}},
        {"arm": {"joints": "ab", "gripper": None}},
    ],
)
def test_what_is_no_embodiment_is_refused(arms):
    with pytest.raises(PositronicError, match="Not an embodiment|a list of names"):
        Embodiment.from_dict({"name": "theirs", "arms": arms})


def test_a_recording_that_states_its_joints_in_degrees_is_refused():
    """Nothing converts them: such numbers would be taken for radians."""
    stated = build_embodiment(config()).to_dict()
    stated["arms"]["arm"]["unit"] = "deg"
    with pytest.raises(PositronicError, match=r"unit is deg; expected rad, in which recordings"):
        Embodiment.from_dict(stated)
