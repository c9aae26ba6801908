"""Chunks that overlap, averaged by the moment."""

from fractions import Fraction

import numpy as np
import pytest
from chunk_clock import STEP_SEC, Clock, told
from hypothesis import given
from hypothesis import strategies as st

from positronic import geometry
from positronic.commands import ActionStep, ArmAction, CartesianPosition, JointDelta, JointPosition, Reset
from positronic.rollout.ensemble import averaged, mean_quat, temporal_ensemble

FOREVER = 10**12


def ensemble(clock, decay=0.0):
    return temporal_ensemble(Fraction(0), FOREVER, clock.ask, STEP_SEC, decay)


def test_every_chunk_that_says_something_of_the_moment_counts():
    """Chunks of three, asked for at every step: the mean of up to three, each by its own step for the moment."""
    clock = Clock(3)
    expected = [0.0, (0.01 + 1.0) / 2, (0.02 + 1.01 + 2.0) / 3, (1.02 + 2.01 + 3.0) / 3]
    assert told(ensemble(clock), 4) == [(k, pytest.approx(value)) for k, value in enumerate(expected)]
    assert clock.asked == [0, 1, 2, 3]


def test_the_oldest_weighs_most():
    """exp(-decay i), i = 0 the oldest, as in ACT."""
    weights = np.exp(-0.5 * np.arange(2))
    rows = told(ensemble(Clock(2), 0.5), 2)
    assert rows[1][1] == pytest.approx(np.dot(weights, [0.01, 1.0]) / weights.sum())


def test_late_answers_count_when_they_are_there_and_one_question_is_open_at_a_time():
    """Two control steps late: the arm stands for two, which do not count; then each second step is asked about."""
    clock = Clock(5, latency=2)
    rows = told(ensemble(clock), 7)
    assert rows[:4] == [(0, "idle"), (1, "idle"), (2, 0.0), (3, 0.01)]
    assert rows[4] == (4, pytest.approx((0.02 + 1.02) / 2))  # asked at 2, there at 4: its step for the moment is 2
    assert clock.asked == [0, 2, 4, 6]


def test_an_arm_for_which_no_chunk_says_anything_waits():
    """A chunk of one step, answered three later."""
    assert told(ensemble(Clock(1, latency=3)), 5)[3:] == [(3, 0.0), (4, "idle")]


def pose(angle_deg, x=0.0):
    half = np.radians(angle_deg) / 2
    return CartesianPosition(np.array([x, 0, 0, np.cos(half), np.sin(half), 0, 0]))


def of_one(*commands, grips=None):
    grips = grips or [0.0] * len(commands)
    return averaged([ActionStep.of_one(each, grip) for each, grip in zip(commands, grips, strict=True)], 0.0)


def test_rotations_are_averaged_as_rotations():
    """Between 10 and 50 degrees lie 30, and not less for the other sign of a quaternion; grippers like numbers."""
    turned = pose(50, 0.2)
    opposite = CartesianPosition(turned.pose * np.array([1, 1, 1, -1, -1, -1, -1]))
    for other in (turned, opposite):
        step = of_one(pose(10), other, grips=[0.0, 1.0])
        np.testing.assert_allclose(step.command.pose[:3], [0.1, 0, 0])
        np.testing.assert_allclose(step.command.pose[3:] * np.sign(step.command.pose[3]), pose(30).pose[3:], atol=1e-12)
        assert step.target_grip == 0.5
    assert np.dot(of_one(pose(10), opposite).command.pose[3:], opposite.pose[3:]) > 0


def test_joints_are_averaged_the_short_way_round_and_steps_as_they_are():
    """-3.1 and 3.1 rad are 0.083 rad apart for a joint that turns without end."""
    (angle,) = of_one(JointPosition(np.array([-3.1])), JointPosition(np.array([3.1]))).command.positions
    assert angle == pytest.approx(np.pi)
    (step,) = of_one(JointDelta(np.array([0.1])), JointDelta(np.array([0.3]))).command.velocities
    assert step == pytest.approx(0.2)


def test_a_joint_with_limits_is_averaged_between_its_places():
    """-2.7 and 2.7 rad of a joint that ends at 2.9 have their mean at 0, and not beyond its end."""
    steps = [ActionStep.of_one(JointPosition(np.array([angle, angle])), 0.0) for angle in (-2.7, 2.7)]
    found = averaged(steps, 0.0, {"": np.array([True, False])}).command.positions
    np.testing.assert_allclose(np.abs(found), [0.0, np.pi], atol=1e-9)


def test_another_kind_of_command_is_left_out():
    """The newest decides; going back to the start has no mean."""
    assert of_one(JointPosition(np.zeros(1)), JointPosition(np.ones(1)), JointDelta(np.ones(1))).command.velocities == 1
    assert isinstance(of_one(JointPosition(np.zeros(1)), Reset()).command, Reset)


def test_each_arm_has_its_own_mean():
    """And one without a gripper keeps none."""
    steps = [
        ActionStep(
            {"left": ArmAction(JointPosition(np.full(1, a)), a), "right": ArmAction(JointPosition(np.full(1, -a)))}
        )
        for a in (0.0, 1.0)
    ]
    found = averaged(steps, 0.0).arms
    assert [float(action.command.positions[0]) for action in found.values()] == [0.5, -0.5]
    assert (found["left"].target_grip, found["right"].target_grip) == (0.5, None)


@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=1, max_size=5), st.floats(0.1, 1))
def test_the_mean_of_one_rotation_is_that_rotation(vectors, share):
    """And the mean of several has unit length."""
    quats = geometry.rotvec_to_quat(np.array(vectors))
    shares = np.full(len(quats), share) / (share * len(quats))
    assert np.linalg.norm(mean_quat(quats, shares)) == pytest.approx(1)
    np.testing.assert_allclose(mean_quat(quats[:1], np.ones(1)), quats[0], atol=1e-9)
