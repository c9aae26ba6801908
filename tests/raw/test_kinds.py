"""A name has one meaning: no alias and no hint puts one kind of signal in the place of another."""

import numpy as np
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
from positronic.raw.kinds import (
    JOINTS,
    PICTURES,
    POSE,
    codec_for,
    kind_of,
    looks_like_poses,
    remedy,
    require_same_kinds,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (keys.JOINT_POSITION, JOINTS),
        ("robot_state.left.q", JOINTS),
        (keys.COMMAND_JOINTS, JOINTS),
        ("robot_command.pose", POSE),
        ("image.handcam_left", PICTURES),
        ("arm.angles", None),
        ("robot_state.q.filtered", None),
    ],
)
def test_what_a_published_name_means(name, kind):
    """Newer spellings and the arms of a robot with two are known; other names mean nothing here."""
    assert kind_of(name) is kind


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (keys.JOINT_POSITION, keys.EE_POSE),
        (keys.JOINT_POSITION, keys.JOINT_VELOCITY),
        (keys.COMMAND_JOINTS, keys.COMMAND_JOINT_DELTAS),
        (keys.COMMAND_POSE, "controller_positions.right"),
        (keys.GRIP, keys.IMAGE_WRIST),
    ],
)
def test_an_alias_to_another_meaning_is_refused(record, tmp_path, name, source):
    """When the dataset is opened, both meanings said; the arrays may well have the same size."""
    record()
    with pytest.raises(PositronicError) as caught:
        open_dataset(tmp_path / "raw", aliases={name: source})
    assert f"'{name}' holds {kind_of(name).what}, '{source}' holds {kind_of(source).what}" in str(caught.value)


def test_an_alias_of_the_same_meaning_or_of_an_unknown_name():
    """Another camera, another arm, and whatever somebody's recorder calls it."""
    require_same_kinds(
        {keys.IMAGE_WRIST: "image.left", keys.EE_POSE: "robot_state.left.ee_pose", keys.JOINT_POSITION: "arm.angles"}
    )


def test_poses_are_known_by_their_quaternions():
    """Seven numbers whose last four have length 1 throughout; a robot that does not move tells nothing."""
    turned = np.random.default_rng(0).normal(size=(20, 7))
    poses = turned.copy()
    poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
    assert looks_like_poses(poses)
    assert not looks_like_poses(turned)
    assert not looks_like_poses(poses[[0, 0]])
    assert not looks_like_poses(poses[:, :6])


def test_the_joints_of_one_arm_never_stand_in_for_those_of_another(record):
    """Both are published names; what nobody knows the meaning of is offered."""
    episode = record(**{"robot_state.left.q": np.zeros(6), "arm.angles": np.zeros(6)})
    found = remedy("robot_state.right.q", episode.signals, 6)
    assert "dataset.aliases={robot_state.right.q: arm.angles}" in found


@pytest.mark.parametrize(
    ("signals", "typed"),
    [
        ((keys.EE_POSE, keys.COMMAND_POSE, keys.GRIP, keys.TARGET_GRIP), {}),
        ((keys.JOINT_POSITION, keys.EE_POSE, keys.COMMAND_JOINTS), {"codec": "joints_cmd"}),
        (
            ("robot_state.left.q", "robot_commands.left.joints", "grip.left", "target_grip.left"),
            {"codec": "joints_cmd"},
        ),
        ((keys.EE_POSE, keys.COMMAND_POSE, keys.GRIP), {"codec": "ee_traj"}),
        ((keys.JOINT_POSITION, keys.GRIP), {"codec": "joints_traj"}),
    ],
)
def test_recordings_are_converted_by_a_codec_whose_signals_they_have(signals, typed):
    """Commanded ones before measured ones; without the commanded gripper there is no commanded action."""
    assert codec_for(signals) == typed
