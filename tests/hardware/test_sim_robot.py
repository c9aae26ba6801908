"""The simulated robot on its clock: commands, signs, sameness."""

import numpy as np
import pytest

from positronic import geometry, keys
from positronic.commands import CartesianPosition, JointDelta, JointPosition, Reset
from positronic.errors import PositronicError
from positronic.hardware.robot import tick_ns
from positronic.hardware.sim.expert import down_quat
from positronic.hardware.sim.robot import SimRobot, sim_contract

SECOND = 10**9


def pose(x, y, z, yaw=0.0):
    return CartesianPosition(np.concatenate([[x, y, z], down_quat(yaw)]))


def state_after(robot, moments_ns):
    """Two commands, then the same two seconds, cut where ``moments_ns`` says."""
    robot.reset(3)
    robot.command(pose(0.5, 0.1, 0.1, 0.3), 1.0)
    for moment in moments_ns:
        robot.advance(moment)
    return np.concatenate([robot.data.qpos, robot.data.qvel])


def test_the_contract_is_what_observe_returns(robot):
    """Same keys, same shapes, images uint8, all finite."""
    observation = robot.observe()
    shapes = {key: np.shape(value) for key, value in observation.items()}
    assert shapes == sim_contract(robot.config).signals
    assert {observation[key].dtype for key in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR)} == {np.dtype("uint8")}
    assert set(robot.contract.conventions) == set(shapes)


def test_cameras_can_be_left_out(robot):
    """observe(images=False) has everything else."""
    left_out = robot.contract.signals.keys() - robot.observe(images=False).keys()
    assert left_out == {keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR}


def test_the_gripper_reads_0_open_and_1_closed(robot):
    """grip starts at 0; after target_grip 1 it reads 1; half way it reads a half; open again it reads 0."""
    assert robot.observe(images=False)[keys.GRIP] == pytest.approx(0, abs=1e-6)
    for until_sec, target_grip in ((1, 1.0), (2, 0.5), (3, 0.0)):
        robot.command(pose(0.45, 0.0, 0.3), target_grip)
        robot.advance(until_sec * SECOND)
        assert robot.observe(images=False)[keys.GRIP] == pytest.approx(target_grip, abs=0.03)


def test_a_pose_is_reached(robot):
    """A commanded pose is measured a second later, to 2 mm and 2e-3 in the quaternion, with the same sign."""
    command = pose(0.5, -0.1, 0.15, 0.3)
    robot.command(command, 0.0)
    robot.advance(SECOND)
    np.testing.assert_allclose(robot.observe(images=False)[keys.EE_POSE], command.pose, atol=2e-3)


@pytest.mark.parametrize("yaw", [-3.0, -1.5, -0.01, 0.01, 1.5])
def test_the_quaternion_of_a_downward_tool_has_positive_x(robot, yaw):
    """Whichever way the tool is turned: the sign never flips from one tick to the next."""
    robot.data.qpos[6] = np.clip(np.pi / 4 + yaw, -2.89, 2.89)
    robot.advance(0)
    assert robot.observe(images=False)[keys.EE_POSE][4] > 0


def test_joint_positions_are_reached(robot):
    """joint_pos moves the joints to absolute positions."""
    goal = robot.observe(images=False)[keys.JOINT_POSITION] + 0.1
    robot.command(JointPosition(goal), 0.0)
    robot.advance(SECOND)
    np.testing.assert_allclose(robot.observe(images=False)[keys.JOINT_POSITION], goal, atol=5e-3)


def test_joint_deltas_add_to_where_the_joints_are(robot):
    """joint_delta moves every joint by so many radians."""
    before = robot.observe(images=False)[keys.JOINT_POSITION]
    robot.command(JointDelta(np.full(7, 0.05)), 0.0)
    robot.advance(SECOND)
    np.testing.assert_allclose(robot.observe(images=False)[keys.JOINT_POSITION], before + 0.05, atol=5e-3)


def test_a_reset_command_goes_back_to_the_start(robot):
    """reset returns the arm to where the episode began; the clock goes on."""
    start = robot.observe(images=False)[keys.JOINT_POSITION]
    robot.command(pose(0.6, 0.1, 0.2), 0.0)
    robot.advance(SECOND)
    robot.command(Reset(), 0.0)
    robot.advance(3 * SECOND)
    np.testing.assert_allclose(robot.observe(images=False)[keys.JOINT_POSITION], start, atol=5e-3)


def test_joints_keep_their_speed_limits(robot):
    """A target far away is approached no faster than the joints may move."""
    start = robot.observe(images=False)[keys.JOINT_POSITION]
    robot.command(JointPosition(start + np.array([1.5, 0, 0, 0, 0, 0, 0])), 0.0)
    speeds = []
    for tick in range(1, 15):
        robot.advance(tick_ns(tick, 15))
        speeds.append(robot.observe(images=False)[keys.JOINT_VELOCITY][0])
    assert 1.5 < max(speeds) < 2.4


def test_the_tool_stays_in_the_workspace(robot):
    """A pose below the table is clamped to the lowest allowed height."""
    robot.command(pose(0.5, 0.3, -0.5), 0.0)
    robot.advance(2 * SECOND)
    assert robot.observe(images=False)[keys.EE_POSE][2] == pytest.approx(robot.config.workspace_min[2], abs=2e-3)


def test_a_wrong_number_of_joints_is_refused(robot):
    """Eight joint positions for a seven-joint arm."""
    with pytest.raises(PositronicError, match=r"'joint_pos': expected 7 finite numbers"):
        robot.command(JointPosition(np.zeros(8)), 0.0)


def test_a_gripper_target_that_is_no_number_is_refused(robot):
    """NaN does not reach the fingers."""
    with pytest.raises(PositronicError, match="target_grip"):
        robot.command(Reset(), float("nan"))


def test_time_does_not_go_back(robot):
    """advance refuses a moment in the past and names both."""
    robot.advance(100)
    with pytest.raises(PositronicError, match="at 100 ns and cannot go back to 99 ns"):
        robot.advance(99)


def test_the_clock_is_exact_and_starts_at_0(robot):
    """time_ns is what advance was told, whatever the physics step; a reset sets it to 0."""
    for moment in (1, 2_000_001, 66_666_666, 66_666_667):
        robot.advance(moment)
        assert robot.time_ns == moment
    robot.reset(0)
    assert robot.time_ns == 0


def test_how_time_is_cut_changes_nothing(robot):
    """Two seconds in one piece, in control steps, or in odd pieces: bit for bit the same state."""
    whole = state_after(robot, [2 * SECOND])
    ticks = state_after(robot, [tick_ns(tick, 15) for tick in range(1, 31)])
    odd = state_after(robot, [*range(0, 2 * SECOND, 7_654_321), 2 * SECOND])
    np.testing.assert_array_equal(whole, ticks)
    np.testing.assert_array_equal(whole, odd)


def test_the_same_seed_is_the_same_episode(robot, sim_config):
    """Bit for bit, images included, in a used simulator and in a new one."""
    robot.reset(5)
    state_after(robot, [SECOND])
    fresh = SimRobot(sim_config)
    for each in (robot, fresh):
        state_after(each, [SECOND])
    used, new = robot.observe(), fresh.observe()
    fresh.close()
    for key in used:
        np.testing.assert_array_equal(used[key], new[key])


def test_statics_describe_the_scene(robot):
    """Task and scene, JSON-ready, under simulation.*."""
    statics = robot.statics()
    assert statics[keys.TASK] == "Stack the red cube on the blue cube."
    assert statics["simulation.red"] == robot.placement.things["red"].tolist()
    assert statics["simulation.cube_size"] == 0.04


def test_closing_twice_is_fine(robot):
    """close may be called again, and a later picture opens anew."""
    robot.observe()
    robot.close()
    robot.close()
    assert robot.observe()[keys.IMAGE_WRIST].shape == (32, 48, 3)


def test_the_measured_pose_is_that_of_the_present(robot):
    """ee_pose belongs to the joints measured with it, not to the physics step before."""
    robot.command(pose(0.6, 0.15, 0.1), 0.0)
    robot.advance(300_000_000)
    observation = robot.observe(images=False)
    position, matrix = robot._kinematics.forward(observation[keys.JOINT_POSITION])
    np.testing.assert_allclose(observation[keys.EE_POSE][:3], position, atol=1e-12)
    np.testing.assert_allclose(geometry.quat_to_matrix(observation[keys.EE_POSE][3:]), matrix, atol=1e-9)
