import numpy as np
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.episode import MissingSignal
from positronic.raw.naming import Naming

NEWER_POSE = "robot_command.pose"
POSE = np.array([0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])


@pytest.fixture
def reopen(tmp_path):
    """Opens what ``record`` recorded, with other options."""
    return lambda **options: open_dataset(tmp_path / "raw", **options)[0]


def test_a_newer_name_is_offered_under_the_published_one(record, reopen):
    """``robot_command.pose`` is read as ``robot_commands.pose``, and listed once."""
    record(**{NEWER_POSE: POSE})
    episode = reopen()
    assert episode[keys.COMMAND_POSE].at(0).tolist() == POSE.tolist()
    assert NEWER_POSE not in episode.signals


@pytest.mark.parametrize("recorded", [NEWER_POSE, keys.COMMAND_POSE])
def test_either_name_can_be_asked_for(record, reopen, recorded):
    """Whichever was recorded."""
    record(**{recorded: POSE})
    assert reopen()[NEWER_POSE].values.shape == reopen()[keys.COMMAND_POSE].values.shape == (8, 7)


def test_both_recorded():
    """When both names were recorded, each means itself."""
    both = Naming().offered([NEWER_POSE, keys.COMMAND_POSE])
    assert both == {NEWER_POSE: NEWER_POSE, keys.COMMAND_POSE: keys.COMMAND_POSE}


def test_an_alias_offers_a_signal_under_another_name(record, reopen):
    """The recorded name stays."""
    record(frames=2)
    episode = reopen(aliases={keys.IMAGE_EXTERIOR: keys.IMAGE_WRIST, "gripper": keys.GRIP})
    assert episode[keys.IMAGE_EXTERIOR].shape == episode[keys.IMAGE_WRIST].shape
    assert episode["gripper"].values.tolist() == episode[keys.GRIP].values.tolist()


def test_aliases_can_swap_two_names():
    """Aliases mean recorded names, not each other, and win over them."""
    offered = Naming({"image.left": "image.right", "image.right": "image.left"}).offered(["image.left", "image.right"])
    assert offered == {"image.left": "image.right", "image.right": "image.left"}


def test_an_alias_of_a_newer_name():
    """Its recorded name may be given in either spelling."""
    assert Naming({"target": keys.COMMAND_POSE}).offered([NEWER_POSE])["target"] == NEWER_POSE
    assert Naming({"target": NEWER_POSE}).offered([NEWER_POSE])["target"] == NEWER_POSE


def test_an_alias_of_something_not_recorded(record, reopen):
    """The message names the alias, its source and the nearest signal present."""
    record()
    with pytest.raises(
        MissingSignal, match=r"'q' \(dataset.aliases takes it from 'robot_state.p'\). Did you mean 'robot"
    ):
        reopen(aliases={"q": "robot_state.p"})["q"]


def test_inverted_grippers(record, reopen):
    """``gripper_open: 1.0`` turns both gripper signals over, and no other."""
    record(**{keys.TARGET_GRIP: 0.25, "force": 0.25})
    episode = reopen(gripper_open=1.0)
    assert episode[keys.TARGET_GRIP].at(0) == 0.75
    assert episode[keys.GRIP].at(0) == 1.0
    assert episode["force"].at(0) == 0.25


def test_an_inverted_gripper_recorded_under_another_name(record, reopen):
    """What is offered as a gripper is one."""
    record(**{"gripper.target": 0.25})
    assert reopen(gripper_open=1.0, aliases={keys.TARGET_GRIP: "gripper.target"})[keys.TARGET_GRIP].at(0) == 0.75


def test_half_open_is_no_convention(record, reopen):
    """Only 0 and 1 are accepted."""
    record()
    with pytest.raises(PositronicError, match=r"dataset.gripper_open=0.5: expected 0.0 .* or 1.0"):
        reopen(gripper_open=0.5)


def test_the_grippers_of_two_arms_are_inverted_too(record, reopen):
    """``grip.left`` is a gripper, and so is what is offered as one."""
    record(**{"grip.left": 0.25, "right.finger": 0.25})
    episode = reopen(gripper_open=1.0, aliases={"target_grip.right": "right.finger"})
    assert (episode["grip.left"].at(0), episode["target_grip.right"].at(0)) == (0.75, 0.75)
