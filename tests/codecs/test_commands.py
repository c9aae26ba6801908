import numpy as np
import pytest

from positronic.commands import (
    ActionStep,
    ArmAction,
    CartesianPosition,
    JointDelta,
    JointPosition,
    Reset,
    chunk_to_wire,
    command_from_wire,
    commands_to_wire,
)
from positronic.errors import PositronicError

POSE = np.array([0.4, 0.1, 0.3, 0.5, 0.5, -0.5, 0.5])


def test_a_pose_travels_as_position_and_row_major_matrix():
    """The wire form has 12 numbers and comes back as the same pose."""
    (wire,) = commands_to_wire([CartesianPosition(POSE)])
    assert wire["pose"].shape == (12,)
    np.testing.assert_allclose(command_from_wire(wire).pose, POSE, atol=1e-12)


@pytest.mark.parametrize("command", [JointPosition(np.arange(7.0)), JointDelta(np.ones(7)), Reset()])
def test_commands_come_back_from_the_wire(command):
    """Type and numbers survive the trip."""
    back = command_from_wire(*commands_to_wire([command]))
    assert type(back) is type(command)
    assert commands_to_wire([back])[0].keys() == commands_to_wire([command])[0].keys()


def test_a_chunk_of_several_kinds_travels_in_order():
    """Commands of one kind in a row are converted together, to the same bits as one by one."""
    other = np.array([0.1, -0.2, 0.5, 0.6, 0.0, 0.8, 0.0])
    commands = [CartesianPosition(POSE), CartesianPosition(other), Reset(), CartesianPosition(POSE)]
    together = commands_to_wire(commands)
    assert [wire["type"] for wire in together] == ["cartesian_pos", "cartesian_pos", "reset", "cartesian_pos"]
    for command, wire in zip(commands, together, strict=True):
        (alone,) = commands_to_wire([command])
        assert {name: np.asarray(value).tobytes() for name, value in wire.items()} == {
            name: np.asarray(value).tobytes() for name, value in alone.items()
        }
    assert chunk_to_wire([]) == []


def test_the_envelope_of_newer_servers_is_opened():
    """{b'__cmd__': command} reads like the command itself."""
    assert isinstance(command_from_wire({b"__cmd__": {"type": "reset"}}), Reset)


def test_lists_are_accepted_for_arrays():
    """A client in another language sends lists."""
    assert command_from_wire({"type": "joint_pos", "positions": [0.0] * 7}).positions.shape == (7,)


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ({"type": "joint_position"}, "Did you mean 'joint_pos'"),
        ({"type": "joint_pos"}, "lacks its field 'positions'"),
        ({"type": "cartesian_pos", "pose": [0.0] * 7}, "expected 12 numbers"),
        ({"type": "joint_delta", "velocities": [float("nan")]}, "expected finite"),
        ({"type": "joint_delta", "velocities": []}, "expected some numbers"),
        ({"type": "joint_pos", "positions": "home"}, "expected some numbers in a row, found home"),
        ({"type": "cartesian_pos", "pose": np.zeros(12)}, "no rotation matrix"),
        ({"type": "cartesian_pos", "pose": [0.0] * 3 + [1e200] * 9}, "no rotation matrix"),
        ({"type": "cartesian_pos", "pose": np.append(np.zeros(3), np.diag([1.0, 1.0, -1.0]))}, "mirror image"),
        ({"type": ["reset"]}, "Unknown robot command type"),
        ("reset", "is a map with a 'type', found str"),
    ],
)
def test_a_bad_command_says_what_was_expected(wire, says):
    """Unknown type, missing field, wrong size and NaN each have their sentence."""
    with pytest.raises(PositronicError, match=says):
        command_from_wire(wire)


def test_a_pose_that_was_rounded_to_two_decimals_is_read():
    """As servers in the field send it."""
    (wire,) = commands_to_wire([CartesianPosition(POSE)])
    pose = command_from_wire(wire | {"pose": np.round(wire["pose"], 2)}).pose
    np.testing.assert_allclose(pose, POSE, atol=0.02)


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ([1, 2], "An action step is a map, found list"),
        ({"robot_command": {"type": "reset"}, "target_grip": "open"}, "target_grip: expected a number, found open"),
        ({"robot_command": {"type": "reset"}, "target_grip": 0, "timestamp": []}, "timestamp: expected a number"),
    ],
)
def test_a_step_that_means_nothing_says_what_was_expected(wire, says):
    """In a sentence, whatever a server sends."""
    with pytest.raises(PositronicError, match=says):
        ActionStep.from_wire(wire)


def test_an_arm_that_is_told_nothing_of_a_gripper_has_none():
    """target_grip is not guessed."""
    assert ActionStep.from_wire({"robot_command": {"type": "reset"}}).target_grip is None


def test_each_of_two_arms_has_keys_of_its_own_on_the_wire():
    """robot_command.left and target_grip.left, as in the published protocol."""
    told = {"left": ArmAction(Reset(), 0.5), "right": ArmAction(JointPosition(np.ones(6)), None)}
    (wire,) = chunk_to_wire([ActionStep(told, 0.2)])
    assert wire.keys() == {"robot_command.left", "target_grip.left", "robot_command.right", "timestamp"}
    back = ActionStep.from_wire(wire)
    assert {arm: action.target_grip for arm, action in back.arms.items()} == {"left": 0.5, "right": None}
    assert isinstance(back.arms["left"].command, Reset)
    assert back.arms["right"].command.positions.tolist() == [1.0] * 6


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ({"timestamp": 0.0}, "needs 'robot_command'. Found: timestamp"),
        ({"robot_command.left": {"type": "reset"}, "target_grip.right": 0.0}, "needs 'robot_command.right'"),
        ({"robot_command.left": {"type": "reset"}, "target_grip": 0.0}, "needs 'robot_command'"),
    ],
)
def test_a_gripper_without_its_arm_is_refused(wire, says):
    """Which arm was meant is not guessed."""
    with pytest.raises(PositronicError, match=says):
        ActionStep.from_wire(wire)


def test_a_step_for_two_arms_is_not_taken_for_one():
    """Asking for its only command raises."""
    step = ActionStep({"left": ArmAction(Reset()), "right": ArmAction(Reset())})
    with pytest.raises(PositronicError, match="one arm, found left, right"):
        step.command  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "field"), [("cartesian_pos", "pose"), ("joint_pos", "positions"), ("joint_delta", "velocities")]
)
def test_what_came_over_the_wire_can_be_written_to(kind, field):
    """Arrays of the wire are read only; a command's belongs to its reader."""
    values = np.append(np.zeros(3), np.eye(3)) if kind == "cartesian_pos" else np.zeros(7)
    values.setflags(write=False)
    command = command_from_wire({"type": kind, field: values})
    getattr(command, field)[:] += 0.1
