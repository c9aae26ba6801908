"""What a robot promises, and opening one from a config."""

import numpy as np
import pytest

from positronic import keys
from positronic.commands import JointDelta, Reset
from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.hardware.factory import open_robot
from positronic.hardware.robot import RobotContract, tick_ns
from positronic.hardware.sim.robot import SimRobot

ONE = RobotContract("one", {keys.GRIP: ()}, frozenset({"reset"}), {keys.GRIP: "gripper"})


def test_a_command_that_the_contract_lists_is_accepted():
    """require_command is silent for a listed kind."""
    ONE.require_command(Reset())


def test_a_command_that_the_contract_lacks_is_refused_by_name():
    """The message names the robot, the command and what the robot takes."""
    with pytest.raises(PositronicError, match=r"'one' does not take the command 'joint_delta'. It takes reset"):
        ONE.require_command(JointDelta(np.zeros(7)))


def test_a_contract_prints_as_a_table():
    """One row per signal, with shape and convention, and the commands."""
    assert str(ONE).splitlines() == ["robot one", "  grip  []               gripper", "  commands: reset"]


def test_ticks_are_floored_so_that_none_is_late():
    """Tick k is the last whole nanosecond not after k / fps."""
    ticks = range(40)
    assert all(tick_ns(k, 15) * 15 <= k * 10**9 < (tick_ns(k, 15) + 1) * 15 for k in ticks)


def test_a_sim_config_opens_the_simulator(sim_config):
    """open_robot finds the robot by the config's type."""
    robot = open_robot(sim_config)
    assert isinstance(robot, SimRobot)
    robot.close()


def test_a_config_without_a_robot_is_refused():
    """The bare base config has no robot behind it."""
    with pytest.raises(PositronicError, match="No robot answers to HardwareConfig"):
        open_robot(HardwareConfig("nothing"))


def test_the_arms_of_a_robot_that_does_not_say_are_those_of_its_signals():
    """An only arm has the empty name; commands for another arm are refused with the arms that there are."""
    pair = RobotContract("pair", {"grip.left": (), "robot_state.right.q": (6,)}, frozenset({"reset"}), {})
    assert (ONE.arms, pair.arms) == (("",), ("left", "right"))
    assert [pair.has_gripper(arm) for arm in pair.arms] == [True, False]
    pair.require_command(Reset(), "left")
    with pytest.raises(PositronicError, match="'pair' has arm left, arm right; found a command for arm middle"):
        pair.require_command(Reset(), "middle")
    with pytest.raises(PositronicError, match="'one' has one arm without a name; found a command for arm left"):
        ONE.require_command(Reset(), "left")
