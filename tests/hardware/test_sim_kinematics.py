"""Forward kinematics against the textbook product of Denavit-Hartenberg matrices; inverse against forward."""

import numpy as np
import pytest

from positronic import geometry
from positronic.hardware.sim import panda
from positronic.hardware.sim.expert import down_quat
from positronic.hardware.sim.kinematics import Kinematics
from positronic.hardware.sim.scene import build_model

# Franka's published table (Craig): a, d, alpha of joints 1 to 7 and of the flange; written out again on purpose.
TABLE = [
    (0, 0.333, 0),
    (0, 0, -np.pi / 2),
    (0, 0.316, np.pi / 2),
    (0.0825, 0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0, 0, np.pi / 2),
    (0.088, 0, np.pi / 2),
    (0, 0.107, 0),
]
REACHABLE = [((0.4, -0.18, 0.02), -0.35), ((0.6, 0.18, 0.02), 0.35), ((0.45, 0.0, 0.26), 0.0), ((0.5, 0.1, 0.4), 0.8)]


@pytest.fixture
def kinematics(sim_config):
    return Kinematics(build_model(sim_config))


def rotation_z(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def craig(a, d, alpha, theta):
    c, s = np.cos(alpha), np.sin(alpha)
    move = np.array([[1, 0, 0, a], [0, c, -s, -s * d], [0, s, c, c * d], [0, 0, 0, 1]])
    return move @ rotation_z(theta)


def tool_by_hand(joints):
    frame = np.eye(4)
    for row, angle in zip(TABLE, [*joints, 0.0], strict=True):
        frame = frame @ craig(*row, angle)
    tool = frame @ rotation_z(-np.pi / 4)
    return tool[:3, 3] + 0.1034 * tool[:3, 2], tool[:3, :3]


def test_the_model_has_the_published_kinematics(kinematics):
    """Tool pose equals the product of the DH matrices to a nanometre, for joints anywhere within their limits."""
    rng = np.random.default_rng(0)
    for joints in rng.uniform(panda.JOINT_LOW, panda.JOINT_HIGH, (100, 7)):
        position, matrix = kinematics.forward(joints)
        expected_position, expected_matrix = tool_by_hand(joints)
        np.testing.assert_allclose(position, expected_position, atol=1e-9)
        np.testing.assert_allclose(matrix, expected_matrix, atol=1e-9)


@pytest.mark.parametrize(("position", "yaw"), REACHABLE)
def test_the_inverse_brings_the_tool_there(kinematics, position, yaw):
    """From the home posture, a pose over the table is met to 0.1 mm and 0.1 mrad, within the joint limits."""
    joints = kinematics.inverse(panda.HOME, np.array(position), down_quat(yaw))
    found, matrix = kinematics.forward(joints)
    turn = geometry.quat_to_matrix(down_quat(yaw)).T @ matrix
    np.testing.assert_allclose(found, position, atol=1.1e-4)
    np.testing.assert_allclose(turn, np.eye(3), atol=1.1e-4)
    assert np.all((joints > panda.JOINT_LOW) & (joints < panda.JOINT_HIGH))


def test_the_inverse_can_turn_the_tool_over(kinematics):
    """A tool that is off by almost half a turn is turned all the same."""
    home, _ = kinematics.forward(panda.HOME)
    joints = kinematics.inverse(panda.HOME, home, down_quat(2.5))
    _, matrix = kinematics.forward(joints)
    np.testing.assert_allclose(matrix, geometry.quat_to_matrix(down_quat(2.5)), atol=1e-3)


def test_out_of_reach_ends_within_the_limits(kinematics):
    """A pose two metres away gives finite joints within their limits."""
    joints = kinematics.inverse(panda.HOME, np.array([2.0, 0, 0.3]), down_quat(0.0))
    assert np.all((joints > panda.JOINT_LOW) & (joints < panda.JOINT_HIGH))


def test_the_simulation_is_not_touched(robot):
    """Solving leaves the simulated arm where it was."""
    before = robot.data.qpos.copy()
    robot._kinematics.inverse(panda.HOME, np.array([0.5, 0.1, 0.1]), down_quat(0.3))
    np.testing.assert_array_equal(robot.data.qpos, before)
