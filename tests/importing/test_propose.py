"""What is proposed of a recording: by names, never by position, and nothing that moves a robot is decided silently."""

import h5py
import numpy as np
import pytest

from positronic import keys
from positronic.importing.check import problems
from positronic.importing.hdf5 import Hdf5Source
from positronic.importing.mapping import OPEN
from positronic.importing.mcap import McapSource
from positronic.importing.propose import propose

MS = 10**6
RED = np.full((32, 48, 3), (200, 0, 0), np.uint8)


@pytest.fixture
def proposal(robot):
    """``proposal(source, embodiment)``"""

    def make(source, embodiment, name="hdf5"):
        return propose(name, source.fields(), robot(embodiment), has_task=False)

    return make


def hdf5(tmp_path, **datasets):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return Hdf5Source(tmp_path)


def test_aloha_is_proposed_whole(teleoperated, proposal, robot):
    """Both arms' joints, grippers and cameras; with what is believed it can be used."""
    source = Hdf5Source(teleoperated())
    found = proposal(source, "aloha")
    joints = found.mapping.signals["robot_state.right.q"]
    assert joints.fields == ("observations/qpos",)
    assert joints.dims == tuple(f"right_{joint}" for joint in robot("aloha").arms[1].joints)
    assert found.mapping.signals["robot_commands.left.joints"].fields == ("action",)
    assert set(found.mapping.signals) >= {"grip.left", "target_grip.right", "image.cam_high", "image.cam_left_wrist"}
    assert problems(found.agreed(), source.fields(), robot("aloha")) == []


def test_what_moves_a_robot_is_open_until_somebody_agrees(teleoperated, proposal):
    """ALOHA's files state nothing; each belief has its reason."""
    found = proposal(Hdf5Source(teleoperated()), "aloha")
    open_places = set(found.mapping.undecided)
    assert open_places >= {
        "fps",
        "signals.robot_state.left.q.unit",
        "signals.grip.left.open",
        "signals.grip.left.closed",
    }
    assert all(found.beliefs[place].why for place in open_places)
    assert found.agreed().undecided == []
    assert found.agreed().signals["grip.left"].open == 1.0


def test_joints_go_by_name_whatever_their_order(bag, proposal, robot):
    """A bag lists them backwards; another arm's topic is what it was told."""
    names = robot("ur5e").arms[0].joints
    for at in range(20):
        time_ns = at * 20 * MS + MS
        bag.joints(time_ns, {joint: place / 10 for place, joint in enumerate(reversed(names))})
        bag.joints(time_ns, {joint: place / 10 for place, joint in enumerate(names)}, topic="/leader/joint_states")
        bag.pose("/tool_pose", time_ns, (0.1, 0.0, 0.5), (0.0, 0.0, 0.6, 0.8))
        bag.frame("/wrist/image/compressed", time_ns, RED)
    signals = proposal(McapSource(bag.write()), "ur5e", "mcap").mapping.signals
    assert signals[keys.JOINT_POSITION].dims == names
    assert signals[keys.JOINT_POSITION].unit == "rad"  # the message's definition says so
    assert signals[keys.COMMAND_JOINTS].fields == ("/leader/joint_states.position",)
    assert (signals[keys.EE_POSE].rotation, signals[keys.EE_POSE].unit) == ("quat_wxyz", "m")
    assert signals[keys.EE_POSE].base == (OPEN,)
    assert (signals[keys.IMAGE_WRIST].fields, signals[keys.IMAGE_WRIST].channels) == (
        ("/wrist/image/compressed",),
        "rgb",
    )


def test_numbers_without_names_are_in_no_order_until_somebody_agrees(tmp_path, proposal):
    """Six joints and a gripper by their count."""
    rows = np.linspace(0, 1, 20)[:, None] + np.zeros(7)
    signals = proposal(hdf5(tmp_path, action=rows, state__joints=rows[:, :6]), "ur5e").mapping.signals
    assert signals[keys.JOINT_POSITION].dims == (OPEN,)
    assert signals[keys.COMMAND_JOINTS].dims == (OPEN,)
    assert signals[keys.TARGET_GRIP].dims == (OPEN,)


def test_an_agreed_order_is_the_robots(tmp_path, proposal):
    """The gripper comes last."""
    found = proposal(hdf5(tmp_path, action=np.zeros((20, 7))), "ur5e").agreed()
    assert found.signals[keys.COMMAND_JOINTS].dims == (0, 1, 2, 3, 4, 5)
    assert found.signals[keys.TARGET_GRIP].dims == (6,)


@pytest.mark.parametrize(("scale", "unit"), [(1.0, "rad"), (57.0, "degrees")])
def test_a_unit_is_believed_by_the_range(tmp_path, proposal, scale, unit):
    """And asked about."""
    found = proposal(hdf5(tmp_path, qpos=np.linspace(-2, 2, 20)[:, None] * scale + np.zeros(6)), "ur5e")
    assert found.mapping.signals[keys.JOINT_POSITION].unit == OPEN
    assert found.beliefs[f"signals.{keys.JOINT_POSITION}.unit"].value == unit


def test_a_gripper_that_fits_the_robots_own_numbers_is_believed_to_be_in_them(tmp_path, proposal):
    """0 to 255 of a Robotiq; 0 to 0.08 is left open without a belief."""
    found = proposal(hdf5(tmp_path, gripper=np.linspace(0, 250, 20), q=np.zeros((20, 6))), "ur5e")
    assert found.beliefs[f"signals.{keys.GRIP}.closed"].value == 255
    other = proposal(hdf5(tmp_path, gripper=np.linspace(0, 0.08, 20), q=np.zeros((20, 6))), "ur5e")
    assert f"signals.{keys.GRIP}.closed" in other.mapping.undecided
    assert f"signals.{keys.GRIP}.closed" not in other.beliefs


def test_of_two_fields_that_could_be_one_signal_none_is_taken(tmp_path, proposal):
    """Both are left out, with the other's name."""
    found = proposal(hdf5(tmp_path, a__joints=np.zeros((20, 6)), b__joints=np.zeros((20, 6))), "ur5e")
    assert found.mapping.left_out == ("a/joints", "b/joints")
    assert found.reasons["a/joints"] == "a/joints, b/joints could each be robot_state.q: map the one that is"


def test_joints_of_other_names_are_left_out_with_them(bag, proposal):
    """As many as the robot has, but who knows in which order."""
    for at in range(3):
        bag.joints(at * 20 * MS + MS, {f"axis_{place}": 0.0 for place in range(6)})
    found = proposal(McapSource(bag.write()), "ur5e", "mcap")
    assert found.mapping.left_out == ("/joint_states.position",)
    assert "(axis_0, axis_1, axis_2, axis_3, axis_4, axis_5) are not called" in found.reasons["/joint_states.position"]


def test_a_robot_whose_recordings_hold_no_poses_gets_none(tmp_path, proposal):
    """SO-101."""
    found = proposal(hdf5(tmp_path, ee_pose=np.zeros((20, 7)), q=np.zeros((20, 5))), "so101")
    assert list(found.mapping.signals) == [keys.JOINT_POSITION]


def test_every_field_is_in_a_signal_or_left_out_with_a_reason(teleoperated, proposal):
    """Nothing disappears."""
    source = Hdf5Source(teleoperated())
    found = proposal(source, "franka")
    used = {field for signal in found.mapping.signals.values() for field in signal.fields}
    assert used | set(found.mapping.left_out) == set(source.fields())
    assert all(found.reasons[field] for field in found.mapping.left_out)
