"""What is played where chunks overlap keeps to the driver's limits."""

import numpy as np
import pytest

from positronic import keys
from positronic.commands import ActionStep, CartesianPosition, JointPosition, Reset
from positronic.embodiments.published import FRANKA
from positronic.hardware.robot import RobotContract
from positronic.raw.dataset import open_dataset
from positronic.rollout.check import UnsafeChunk, joints_with_limits
from positronic.rollout.config import DriverConfig
from positronic.rollout.results import UNSAFE
from positronic.rollout.runner import run_episode
from positronic.rollout.seams import SeamCheck

ROBOT = RobotContract("arm", {keys.EE_POSE: (7,)}, frozenset({CartesianPosition.kind}), {})
OVERLAPS = {"playback": "ask_ahead", "ask_ahead_steps": 2, "simulate_latency": True, "latency_sec": 0.2}


def place(x):
    return np.array([x, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0])


def step(x):
    return ActionStep.of_one(CartesianPosition(place(x)), 0.0)


def admitted(check, x, time_sec, measured):
    return check.admit(step(x), time_sec, {keys.EE_POSE: place(measured)})


def seams(**driver):
    return SeamCheck(ROBOT, DriverConfig("timed", **driver), 0.1)


def test_a_step_is_looked_at_from_where_the_robot_is_now():
    """As a chunk's first step is, whatever was played before."""
    with pytest.raises(
        UnsafeChunk, match="due at 0.500 s.*the tool jumps by 0.4 m from where it is measured.*max_jump"
    ):
        admitted(seams(), 0.5, 0.5, 0.1)


def test_a_step_is_looked_at_from_the_steps_before_it():
    """Speed from one, acceleration from two; after another kind of command only the jump counts."""
    check = seams(max_speed=1.0)
    admitted(check, 0.4, 0.0, 0.4)
    with pytest.raises(UnsafeChunk, match="moves at 1.5 m/s, expected at most 1 m/s"):
        admitted(check, 0.55, 0.1, 0.4)
    check = seams(max_acceleration=10.0)
    admitted(check, 0.4, 0.0, 0.4)
    admitted(check, 0.45, 0.1, 0.4)
    with pytest.raises(UnsafeChunk, match="accelerates by 15 m/s"):
        admitted(check, 0.35, 0.2, 0.4)
    check.admit(ActionStep.of_one(Reset(), 0.0), 0.3, {})
    admitted(check, 0.35, 0.4, 0.4)


def test_two_clocks_that_meet_make_no_speed():
    """Half a control step after another, a step counts as one control step later."""
    check = seams(max_speed=1.0)
    admitted(check, 0.4, 0.0, 0.4)
    admitted(check, 0.49, 0.05, 0.4)


def test_clamping_goes_on_from_what_was_played():
    """As far towards each step as it may, until it is caught up with; what is within limits is the same step."""
    check = seams(max_speed=1.0, on_unsafe_chunk="clamp")
    good = step(0.4)
    assert check.admit(good, 0.0, {keys.EE_POSE: place(0.4)}) is good
    found = [admitted(check, 0.65, time, 0.4).command.pose[0] for time in (0.1, 0.2, 0.3)]
    np.testing.assert_allclose(found, [0.5, 0.6, 0.65])


def test_clamping_brakes_before_a_step_that_stays():
    """Down to a table and no further, each step within the acceleration."""
    check = seams(max_acceleration=2.0, max_jump=None, on_unsafe_chunk="clamp")
    told = [0.4, 0.4, *[0.1] * 20]
    found = [admitted(check, x, k / 10, 0.4).command.pose[0] for k, x in enumerate(told)]
    assert min(found) >= 0.1 - 1e-9
    assert found[-1] == 0.1
    assert np.abs(np.diff(found, 2)).max() <= 0.02 + 1e-6


class ToAndFro:
    """Goes 0.18 m to one side of where it is asked, and the next time to the other."""

    def __init__(self):
        self.meta = {keys.META_ACTION_FPS: 10.0}
        self.reset()

    def reset(self):
        self.side = -1

    def infer(self, observation):
        self.side = -self.side
        start, way = observation[keys.EE_POSE], np.eye(7)[1] * self.side * 0.06
        return [ActionStep.of_one(CartesianPosition(start + k * way), 0.0, k / 10) for k in range(4)]

    def rest(self):
        pass

    def close(self):
        pass


def test_an_episode_ends_at_a_seam_beyond_the_limits(point_robot, writer):
    """Each chunk is within them; going over from one to the next is not."""
    driver = DriverConfig("timed", on_unsafe_chunk="stop", max_speed=1.0, simulation_time=2.0, **OVERLAPS)
    result = run_episode(point_robot, ToAndFro(), writer, 0, driver)
    assert result.outcome == UNSAFE
    assert "where chunks meet: the tool moves at" in result.reason


def test_an_episode_that_clamps_has_no_seam_beyond_the_limits(point_robot, writer):
    """The recorded commands are what was played, and the changed steps are counted."""
    driver = DriverConfig("timed", on_unsafe_chunk="clamp", max_speed=1.0, simulation_time=2.0, **OVERLAPS)
    result = run_episode(point_robot, ToAndFro(), writer, 0, driver)
    writer.finish()
    told = open_dataset(writer.path.parent.parent)[0].signals[keys.COMMAND_POSE]
    assert result.clamped_steps > 0
    assert np.abs(np.diff(told.values[:, 1])).max() <= 0.1 + 1e-6


class StepByStep(ToAndFro):
    """One step at a time, by turns to either side of where the robot is."""

    def infer(self, observation):
        return super().infer(observation)[1:2]


@pytest.mark.parametrize("clamps", [False, True])
def test_chunks_of_one_step_are_looked_at_one_after_another(point_robot, writer, clamps):
    """However they are played; each alone is within the limits. A step that is clamped counts once."""
    action = "clamp" if clamps else "stop"
    driver = DriverConfig("timed", on_unsafe_chunk=action, max_speed=0.5, max_jump=0.05, simulation_time=1.0)
    result = run_episode(point_robot, StepByStep(), writer, 0, driver)
    if clamps:
        assert 0 < result.clamped_steps <= 10
    else:
        assert result.outcome == UNSAFE


def test_which_joints_have_limits_is_the_embodiments_word():
    """All of a Franka's; nothing is known of a robot that states none."""
    robot = RobotContract("arm", {}, frozenset({JointPosition.kind}), {}, embodiment=FRANKA)
    assert joints_with_limits(robot)[""].tolist() == [True] * 7
    assert joints_with_limits(ROBOT) == {}
