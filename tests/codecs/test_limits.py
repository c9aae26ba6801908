"""What a robot's numbers can be at all."""

import numpy as np
import pytest

from positronic.codecs.limits import command_fault, fault, step_fault
from positronic.codecs.parts import PARTS
from positronic.commands import ActionStep, CartesianPosition, JointDelta, JointPosition, Reset

POSE = [0.4, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (CartesianPosition(np.array(POSE)), None),
        (CartesianPosition(np.array([5.0, *POSE[1:]])), "m from the base, expected at most 3"),
        (CartesianPosition(np.array([1e30, *POSE[1:]])), "1e+30 m from the base"),
        (CartesianPosition(np.array([*POSE[:3], 0, 0, 0, 0])), "quaternion of norm 0, expected 1"),
        (JointPosition(np.linspace(-3, 3, 7)), None),
        (JointPosition(np.full(7, 100.0)), "joint at 100, expected at most 2 pi"),
        (JointDelta(np.full(7, 0.2)), None),
        (JointDelta(np.full(7, -30.0)), "joint moves by -30 in one step"),
        (Reset(), None),
    ],
)
def test_an_impossible_command_is_named_with_its_number(command, says):
    """Metres away, radians beyond a full turn, a quaternion without length; what a robot can do passes."""
    found = command_fault(command)
    assert found is None if says is None else says in found


def test_a_step_is_looked_at_with_its_gripper():
    """A gripper in percent."""
    assert step_fault(ActionStep.of_one(Reset(), 1.0)) is None
    assert step_fault(ActionStep.of_one(Reset(), 80.0)) == "gripper at 80, expected 0 (open) to 1 (closed)"


@pytest.mark.parametrize(
    ("part", "sample", "says"),
    [
        ("ee_pose", [400.0, 100.0, 300.0, *POSE[3:]], "metres, not millimetres"),
        ("ee_pose", [*POSE[:3], 0.0, 2.0, 0.0, 0.0], "quaternion of norm 2, expected 1"),
        ("ee_pose", [*POSE[:3], 0.71, 0.71, 0.0, 0.0], None),
        ("joint_position", [0.0, -90.0, 0, 0, 0, 0, 0], "joint at -90"),
        ("grip", [100.0], "gripper at 100"),
        ("grip", [1.02], None),
    ],
)
def test_raw_samples_in_other_units_are_named(part, sample, says):
    """A sensor's overshoot and two decimals of a quaternion are none."""
    found = fault(PARTS[part].raw_limits, [sample])
    assert found is None if says is None else says in found
