"""The expert stacks, depends on the present alone, and puts things right."""

from dataclasses import replace

import numpy as np
import pytest

from positronic.hardware.robot import tick_ns
from positronic.hardware.sim.expert import Phase, down_quat, down_yaw
from positronic.hardware.sim.tasks.stack import SCORES

PHASES = [Phase.APPROACH, Phase.GRASP, Phase.CARRY, Phase.RELEASE, Phase.RETREAT]


@pytest.fixture
def expert(robot):
    return robot.task.expert()


def perform(robot, expert, ticks=210):
    """Let the expert work until it succeeds; the phases it went through, or None when time was up."""
    hold, phases, begin = robot.judge(), [], robot.time_ns
    for tick in range(ticks):
        if hold.update(robot.time_ns, robot.metrics()) and expert.is_done(robot.scene_state()):
            return phases
        decision = expert.decide(robot.scene_state())
        phases.append(decision.phase)
        robot.command(decision.step.command, decision.step.target_grip)
        robot.advance(begin + tick_ns(tick + 1, 15))
    return None


@pytest.mark.parametrize("seed", range(5))
def test_the_expert_stacks(robot, expert, seed):
    """Within 5 s, through every phase in order, and the score says so."""
    robot.reset(seed)
    phases = perform(robot, expert, ticks=75)
    assert list(dict.fromkeys(phases)) == PHASES
    assert robot.metrics()[SCORES.score] == 1.0


def test_the_expert_has_no_memory(robot, expert):
    """The same scene gives the same command, whatever came before."""
    robot.reset(1)
    state = robot.scene_state()
    first = expert.decide(state)
    perform(robot, expert)
    again = expert.decide(state)
    assert first.phase == again.phase
    np.testing.assert_array_equal(first.step.command.pose, again.step.command.pose)


def test_a_lost_cube_is_fetched_again(robot, expert):
    """Red taken out of the gripper in mid-air and put back on the table is stacked all the same."""
    robot.reset(2)
    start = robot.data.joint("red").qpos.copy()
    while expert.decide(robot.scene_state()).phase is not Phase.CARRY:
        step = expert.decide(robot.scene_state()).step
        robot.command(step.command, step.target_grip)
        robot.advance(robot.time_ns + tick_ns(1, 15))
    robot.data.joint("red").qpos[:] = start
    robot.advance(robot.time_ns + tick_ns(1, 15))
    assert perform(robot, expert) is not None


def test_a_gripper_closed_on_nothing_is_opened(robot, expert):
    """Shut fingers and red elsewhere: approach, open."""
    state = replace(robot.scene_state(), width=0.0)
    decision = expert.decide(state)
    assert (decision.phase, decision.step.target_grip) == (Phase.APPROACH, 0.0)


def test_the_tool_comes_down_only_when_it_is_above_the_cube(robot, expert):
    """Low and aside, the expert rises before it goes over the cube."""
    state = robot.scene_state()
    low_and_aside = replace(state, tcp=state["red"].position + np.array([0.08, 0, 0]))
    assert expert.decide(low_and_aside).step.command.pose[2] > low_and_aside.tcp[2]


def test_yaw_and_quaternion_are_each_others_inverse():
    """down_yaw undoes down_quat, and x stays positive."""
    for yaw in np.linspace(-3, 3, 13):
        assert down_yaw(down_quat(yaw)) == pytest.approx(yaw)
        assert down_quat(yaw)[1] > 0
