"""A recording that plays as if it were a robot."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from positronic import geometry, keys
from positronic.commands import CartesianPosition, JointDelta, JointPosition
from positronic.errors import PositronicError
from positronic.hardware.factory import open_robot
from positronic.hardware.replay.config import ReplayConfig
from positronic.hardware.replay.robot import angle_between
from positronic.raw.writer import DatasetWriter

RAW_V1 = Path(__file__).parents[1] / "data" / "raw_v1"
DOWN = np.array([0.0, 1.0, 0.0, 0.0])
STEP_NS = 100_000_000


def pose(x):
    return np.array([x, 0.0, 0.2, *DOWN])


@pytest.fixture
def recording(tmp_path):
    """Two episodes at 10 Hz, with clocks of their own; the tool is told to be 1 cm ahead of where it is."""
    writer = DatasetWriter(tmp_path / "recording")
    for start_ns in (5_000_000_000, 7_000_000_000):
        with writer.new_episode() as episode:
            episode.set_static(keys.TASK, "Push.")
            for k in range(5):
                time_ns = start_ns + k * STEP_NS
                episode.append(keys.EE_POSE, pose(0.4 + 0.01 * k), time_ns)
                episode.append(keys.JOINT_POSITION, np.full(7, 0.1 * k), time_ns)
                episode.append(keys.GRIP, 0.25, time_ns)
                episode.append(keys.IMAGE_WRIST, np.full((16, 16, 3), 40 * k, np.uint8), time_ns + 1000)
                episode.append(keys.COMMAND_POSE, pose(0.41 + 0.01 * k), time_ns)
                episode.append(keys.TARGET_GRIP, 1.0, time_ns)
                episode.append("stacking_success", 0.5, time_ns)
    return tmp_path / "recording"


def robot_of(path, **values):
    return open_robot(ReplayConfig("replay", path=str(path), **values))


def test_it_measures_what_was_recorded_at_or_before_the_moment(recording):
    """Between two samples the earlier one holds, in vectors and in images alike."""
    robot = robot_of(recording)
    robot.advance(2 * STEP_NS + STEP_NS // 2)
    seen = robot.observe()
    assert seen.keys() == {keys.EE_POSE, keys.JOINT_POSITION, keys.GRIP, keys.IMAGE_WRIST}
    np.testing.assert_allclose(seen[keys.EE_POSE], pose(0.42))
    assert seen[keys.GRIP] == 0.25
    assert abs(float(seen[keys.IMAGE_WRIST].mean()) - 80) < 4


def test_time_starts_when_every_signal_has_started(recording):
    """Time 0 is the first camera frame, 1 microsecond after the rest; the end is the last stamp of all."""
    robot = robot_of(recording)
    assert (robot.time_ns, robot.duration_ns) == (0, 4 * STEP_NS)
    assert abs(float(robot.observe()[keys.IMAGE_WRIST].mean())) < 4


def test_a_command_is_compared_with_the_recorded_one_and_moves_nothing(recording):
    """3 mm beside the recorded command, turned by 0.1 rad, half closed: the metrics say so, the measurements do not."""
    robot = robot_of(recording)
    robot.advance(STEP_NS)
    before = robot.observe()[keys.EE_POSE]
    turned = np.array([0.0, np.cos(0.05), np.sin(0.05), 0.0])
    robot.command(CartesianPosition(np.array([0.42, 0.003, 0.2, *turned])), 0.5)
    expected = {keys.REPLAY_POSITION_ERROR: 0.003, keys.REPLAY_ROTATION_ERROR: 0.1, keys.REPLAY_GRIP_ERROR: 0.5}
    assert robot.metrics() == pytest.approx(expected)
    np.testing.assert_array_equal(robot.observe()[keys.EE_POSE], before)


def test_joint_commands_are_compared_with_measured_joints_where_none_were_commanded(recording):
    """The recording has no joint commands, so the joints' own course is what a joint command is held against."""
    robot = robot_of(recording)
    robot.advance(STEP_NS)
    robot.command(JointPosition(np.array([0.1, 0.1, 0.1, 0.12, 0.1, 0.1, 0.1])), 1.0)
    assert robot.metrics()[keys.REPLAY_JOINT_ERROR] == pytest.approx(0.02)


def test_a_command_with_nothing_to_compare_is_refused(recording):
    """Joint deltas were neither commanded nor measured here."""
    with pytest.raises(PositronicError, match="joint_delta"):
        robot_of(recording).command(JointDelta(np.zeros(7)), 0.0)


def test_the_seed_is_the_place_of_the_episode(recording):
    """``reset(seed)`` plays episode ``hardware.episode`` + seed, and refuses what is not there."""
    robot = robot_of(recording)
    robot.reset(1)
    assert robot.statics()["replay.path"].endswith("000000000001")
    with pytest.raises(PositronicError, match="0 to 1; number 2"):
        robot.reset(2)
    assert robot_of(recording, episode=1).statics()["replay.path"].endswith("000000000001")


def test_a_missing_recording_says_which_parameter_names_it(tmp_path):
    """The message is the dataset's own, with the name that the path has here."""
    with pytest.raises(PositronicError, match=r"does not exist.*hardware\.path"):
        robot_of(tmp_path / "nowhere")


def test_a_published_recording_plays():
    """The sample of the published format has state, gripper and two cameras, and takes poses and joints."""
    robot = robot_of(RAW_V1)
    assert robot.contract.signals[keys.IMAGE_WRIST] == (240, 320, 3)
    assert robot.contract.commands == {CartesianPosition.kind, JointPosition.kind}
    robot.advance(robot.duration_ns)
    assert {name: np.shape(value) for name, value in robot.observe().items()} == robot.contract.signals
    robot.close()


@given(st.floats(1e-9, np.pi - 1e-6), st.booleans())
def test_the_angle_between_rotations_is_exact_when_it_is_tiny(angle, negated):
    """The angle of a rotation comes back to nine digits, whatever the quaternion's sign."""
    turned = geometry.rotvec_to_quat([0.0, angle, 0.0])
    identity = np.array([1.0, 0.0, 0.0, 0.0])
    assert angle_between(identity, -turned if negated else turned) == pytest.approx(angle, rel=1e-9, abs=1e-15)


def test_a_damaged_recording_is_not_played(recording):
    """Whatever a policy did, it would be compared with what nobody recorded; the file is named."""
    joints = min(recording.glob("*/*")) / f"{keys.JOINT_POSITION}.parquet"
    joints.write_bytes(joints.read_bytes()[:-8])
    with pytest.raises(PositronicError, match=rf"{keys.JOINT_POSITION}\.parquet cannot be read"):
        robot_of(joints.parents[2])
