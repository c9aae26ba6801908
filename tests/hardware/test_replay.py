"""A recording that plays as if it were a robot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from positronic import geometry, keys
from positronic.commands import CartesianPosition, JointDelta, JointPosition
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.errors import PositronicError
from positronic.hardware.factory import open_robot
from positronic.hardware.replay.config import ReplayConfig
from positronic.hardware.replay.robot import angle_between
from positronic.raw.writer import DatasetWriter

RAW_V1 = Path(__file__).parents[1] / "data" / "raw_v1"
DOWN = np.array([0.0, 1.0, 0.0, 0.0])
STEP_NS = 100_000_000
SIX = Arm("left", ("a", "b", "c", "d", "e", "f"), ee_frame=None)
PAIR = Embodiment("pair", (SIX, replace(SIX, name="right")), {"top": "exterior"})


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


@pytest.fixture
def pair(tmp_path):
    """Two arms with six joints and a gripper each, and a camera: ``pair(**renamed)`` records keys under other names."""

    def make(**renamed):
        with DatasetWriter(tmp_path / "pair").new_episode() as episode:
            episode.set_static(keys.EMBODIMENT, PAIR.to_dict())
            for k in range(5):
                for arm in ("left", "right"):
                    joints = np.full(6, 0.1 * k)
                    values = {keys.JOINT_POSITION: joints, keys.COMMAND_JOINTS: joints + 0.05, keys.GRIP: 0.25}
                    for name, value in values.items():
                        name = keys.of_arm(name, arm)
                        episode.append(renamed.get(name, name), value, k * STEP_NS)
                name = renamed.get("image.top", "image.top")
                episode.append(name, np.full((16, 16, 3), 40 * k, np.uint8), k * STEP_NS)
        return tmp_path / "pair"

    return make


def test_two_arms_are_compared_one_by_one(pair):
    """The robot is the recording's; each arm's command is held against its own, and an arm's errors stay until it is
    told something else."""
    robot = robot_of(pair())
    assert robot.contract.embodiment == PAIR
    assert robot.contract.commands == {JointPosition.kind}
    robot.advance(STEP_NS)
    robot.command(JointPosition(np.full(6, 0.15)), 0.25, "left")
    robot.command(JointPosition(np.full(6, 0.35)), 0.75, "right")
    assert robot.metrics() == pytest.approx(
        {"replay.left.joint_error": 0, "replay.left.grip_error": 0}
        | {"replay.right.joint_error": 0.2, "replay.right.grip_error": 0.5}
    )
    robot.command(JointPosition(np.full(6, 0.25)), 0.25, "left")
    assert robot.metrics()["replay.left.joint_error"] == pytest.approx(0.1)
    assert robot.metrics()["replay.right.joint_error"] == pytest.approx(0.2)
    with pytest.raises(PositronicError, match="has arm left, arm right; found a command for one arm without a name"):
        robot.command(JointPosition(np.full(6, 0.15)), 0.25)
    robot.close()


def test_aliases_are_those_of_the_dataset(pair):
    """A gripper and a camera under names of somebody's own; the robot's camera goes by the new name."""
    path = pair(**{"grip.left": "finger.left", "image.top": "image.ceiling"})
    aliases = {"grip.left": "finger.left", "image.eye": "image.top", "image.top": "image.ceiling"}
    with pytest.raises(PositronicError, match=r"hardware.aliases={image.eye: image.top}: .* has no signal 'image.top'"):
        robot_of(path, aliases=aliases)
    robot = robot_of(path, gripper_open=1.0, aliases={"grip.left": "finger.left", "image.top": "image.ceiling"})
    assert robot.observe()["grip.left"] == 0.75
    assert robot.contract.signals["image.top"] == (16, 16, 3)
    robot.close()


def test_an_alias_renames_the_camera_of_the_robot(pair):
    """So that a policy that was trained with the alias finds its camera, in the role that the recording states."""
    robot = robot_of(pair(), aliases={"image.eye": "image.top"})
    assert robot.contract.embodiment.cameras == {"eye": "exterior"}
    robot.close()


def test_an_alias_that_converts_nothing_is_refused_by_its_name_here(pair):
    """The message is the dataset's own."""
    with pytest.raises(PositronicError, match=r"hardware.aliases={grip.left: image.top}: 'grip.left' holds openings"):
        robot_of(pair(), aliases={"grip.left": "image.top"})
