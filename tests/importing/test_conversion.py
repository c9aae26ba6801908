"""Numbers of other recordings in rad, metres, unit quaternions and 0 = open."""

import numpy as np
import pytest

from positronic import geometry, keys
from positronic.errors import PositronicError
from positronic.importing.conversion import canonical
from positronic.importing.mapping import SignalMapping
from positronic.importing.quantities import quantity_of

TURN = geometry.rotvec_to_quat([0.3, -0.4, 0.5])
MATRIX = geometry.quat_to_matrix(TURN)


@pytest.fixture
def convert(robot):
    """``convert(key, embodiment, rows, **conventions)``"""

    def run(key, embodiment, rows, **conventions):
        quantity = quantity_of(key, robot(embodiment))
        return canonical(SignalMapping(("field",), **conventions), quantity, np.array(rows), "here")

    return run


def test_degrees_become_rad(convert):
    """Velocities too."""
    for key in (keys.JOINT_POSITION, keys.JOINT_VELOCITY):
        found = convert(key, "so101", [[180.0, -90.0, 0.0, 45.0, 30.0]], unit="degrees")
        assert np.allclose(found, [[np.pi, -np.pi / 2, 0, np.pi / 4, np.pi / 6]])


def test_rad_stays_bit_for_bit(convert):
    """float32 is written as the double of the same value."""
    rows = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    assert np.array_equal(convert(keys.JOINT_POSITION, "so101", rows, unit="rad"), rows)


def test_m100_100_is_the_joints_range(convert, robot):
    """-100 is its lower end, 100 its upper one."""
    arm = robot("so101").arms[0]
    found = convert(keys.JOINT_POSITION, "so101", [[-100.0] * 5, [100.0] * 5, [0.0] * 5], unit="m100_100")
    assert np.allclose(found, [arm.lower, arm.upper, (np.array(arm.lower) + arm.upper) / 2])


@pytest.mark.parametrize(("opened", "closed"), [(1.0, 0.0), (0.0, 255.0), (100.0, 0.0), (0.04, 0.0), (-1.0, 1.0)])
def test_a_gripper_is_0_when_open_and_1_when_closed(convert, opened, closed):
    """Whatever the recording says."""
    rows = [[opened], [closed], [(opened + closed) / 2]]
    assert np.allclose(convert(keys.GRIP, "franka", rows, open=opened, closed=closed), [0, 1, 0.5])


def test_a_gripper_in_another_unit_than_the_mapping_says_is_refused(convert):
    """Clipping it would hide that."""
    with pytest.raises(PositronicError, match="here: 80 at sample 1 is far from open: 0 and closed: 1"):
        convert(keys.GRIP, "franka", [[0.0], [80.0]], open=0.0, closed=1.0)


@pytest.mark.parametrize(
    ("rotation", "numbers"),
    {
        "quat_wxyz": TURN,
        "quat_xyzw": TURN[[1, 2, 3, 0]],
        "rotvec": geometry.quat_to_rotvec(TURN),
        "rot6d_rows": MATRIX[:2].ravel(),
        "rot6d_columns": MATRIX[:, :2].T.ravel(),
        "matrix": MATRIX.ravel(),
    }.items(),
)
def test_every_rotation_becomes_the_same_quaternion(convert, rotation, numbers):
    """Scalar first; millimetres become metres."""
    rows = [[100.0, 200.0, 300.0, *numbers]]
    found = convert(keys.EE_POSE, "franka", rows, unit="mm", rotation=rotation)
    assert np.allclose(found, [[0.1, 0.2, 0.3, *TURN]])


def test_euler_angles_turn_about_fixed_axes_x_first(convert):
    """Rz Ry Rx, written out."""
    x, y, z = 0.3, -0.7, 1.1
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    found = convert(keys.EE_POSE, "franka", [[0.0, 0.0, 0.0, x, y, z]], unit="m", rotation="euler_xyz")
    assert np.allclose(geometry.quat_to_matrix(found[0, 3:]), np.array(about_z) @ about_y @ about_x)


def test_poses_are_brought_into_the_robots_base_frame(convert):
    """The recording's frame is 1 m ahead of the base and turned by 90 degrees about z."""
    half = np.sqrt(0.5)
    base = (1.0, 0.0, 0.0, half, 0.0, 0.0, half)
    rows = [[0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]]
    found = convert(keys.EE_POSE, "franka", rows, unit="m", rotation="quat_wxyz", base=base)
    assert np.allclose(found, [[1.0, 0.5, 0.2, half, 0.0, 0.0, half]])


@pytest.mark.parametrize(
    ("rotation", "numbers", "message"),
    [
        ("quat_wxyz", [0.1, 0.2, 0.3, 0.4], "sample 1 is not a unit quaternion"),
        ("matrix", [1.0, 0, 0, 0, 1, 0, 0, 0, -1], "sample 1 is not a rotation matrix"),
        ("rot6d_rows", [0.0] * 6, "has no direction"),
        ("rotvec", [np.nan, 0, 0], "sample 1 holds nan"),
    ],
)
def test_what_is_no_rotation_is_refused_with_its_sample(convert, rotation, numbers, message):
    """A wrong layout mostly shows so."""
    good = {"quat_wxyz": TURN, "matrix": MATRIX.ravel(), "rot6d_rows": MATRIX[:2].ravel(), "rotvec": [0.0] * 3}
    rows = [[0.0, 0.0, 0.0, *good[rotation]], [0.0, 0.0, 0.0, *numbers]]
    with pytest.raises(PositronicError, match=f"here.*{message}"):
        convert(keys.EE_POSE, "franka", rows, unit="m", rotation=rotation)
