"""What a recorder refuses, as nobody could mend it later."""

import numpy as np
import pytest
from small_robot import CAMERAS, FRONT, SIZE, STEP_NS, append, sample

import positronic
from positronic import keys
from positronic.errors import PositronicError

POSE = [0.3, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def so101(tmp_path_factory):
    root = tmp_path_factory.mktemp("so101")
    with positronic.record(root, "so101", cameras=CAMERAS, task="x", signals={"force": (6,)}) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def franka(tmp_path_factory):
    with positronic.record(tmp_path_factory.mktemp("franka"), "franka", task="x") as recorder:
        yield recorder


@pytest.fixture
def episode(so101):
    """An episode with one sample of everything at 1 s."""
    with so101.episode() as episode:
        episode.append(sample(0) | {"force": np.zeros(6)}, time_ns=10**9)
        yield episode
        episode.discard()


@pytest.mark.parametrize(
    ("time_ns", "message"),
    [
        (1.5, r"whole number of nanoseconds, got 1\.5 \(float\).*round\(seconds \* 10\*\*9\)"),
        (np.float64(2e9), "whole number of nanoseconds"),
        (True, "whole number of nanoseconds"),
        ("2", "whole number of nanoseconds"),
        (None, "whole number of nanoseconds"),
        (10**9, "the stamp of the one before"),
        (10**9 + 9_999, "9999 ns after the one before; expected at least 10000 ns"),
        (10**9 - 1, "time goes back by 1 ns"),
        (10**9 + 10**15, "11.6 days away .* clocks differ"),
    ],
)
def test_a_stamp_is_whole_nanoseconds_that_increase(episode, time_ns, message):
    """By 10 us at least, on one clock."""
    with pytest.raises(PositronicError, match=message):
        episode.append({keys.GRIP: 0.0}, time_ns=time_ns)


def test_a_frame_buffer_is_appended_once(episode):
    """The encoder may be reading it. Nothing of that call is recorded, so that the stamp is still free."""
    buffer = episode.frame_buffer(FRONT)
    episode.append({FRONT: buffer}, time_ns=2 * 10**9)
    with pytest.raises(PositronicError, match=r"has been appended.*episode.frame_buffer\('image.front'\)"):
        episode.append({keys.GRIP: 0.0, FRONT: buffer}, time_ns=3 * 10**9)
    episode.append({keys.GRIP: 0.0, FRONT: episode.frame_buffer(FRONT)}, time_ns=3 * 10**9)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ("front", "expected its raw key, 'image.front'"),
        ("image.left", "Camera 'left' was not declared"),
        (keys.GRIP, "Signal 'grip' is no camera"),
    ],
)
def test_a_frame_buffer_is_of_a_declared_camera(episode, camera, message):
    with pytest.raises(PositronicError, match=message):
        episode.frame_buffer(camera)


def test_each_signal_has_a_stamp_of_its_own(episode):
    """Numpy's whole numbers are whole numbers; another signal may be older."""
    episode.append({keys.GRIP: 0.0}, time_ns=np.int64(10**9 + 10_000))
    episode.append({keys.TARGET_GRIP: 0.0}, time_ns=10**9 + 10_000)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (keys.JOINT_POSITION, np.zeros(6), r"expected 5 joints: shoulder_pan, .*\(shape \(5,\)\); got shape \(6,\)"),
        (keys.JOINT_POSITION, np.zeros((1, 5)), r"got shape \(1, 5\)"),
        (keys.JOINT_POSITION, [0, 0, 0, 0, float("nan")], "is not finite.*leave this sample out"),
        (keys.JOINT_POSITION, [0, 0, 0, 90, 0], "joint wrist_flex is at 90.*1.658 rad.*deg2rad"),
        (keys.JOINT_POSITION, [0, [1], 0, 0, 0], "a ragged list"),
        (keys.JOINT_POSITION, ["0"] * 5, "list, which is no number"),
        (keys.JOINT_POSITION, np.zeros(5, np.float32), "holds float64; now it got float32"),
        (keys.COMMAND_JOINTS, np.zeros(7), "5 joints"),
        (keys.GRIP, 1.01, r"expected 0 \(open\) to 1 \(closed\), got 1.01.* 100 \(open\) to 0 \(closed\)"),
        (keys.GRIP, -0.01, r"expected 0 \(open\)"),
        (keys.GRIP, float("inf"), "is not finite"),
        (keys.GRIP, None, "NoneType, which is no number"),
        (keys.TARGET_GRIP, [0.5], r"got shape \(1,\)"),
        ("force", np.zeros(3), r"shape \(6,\)\); got shape \(3,\)"),
        (keys.EE_POSE, POSE, r"embodiment so101 says that its recordings hold no poses.*ee_frame"),
        ("robot_state.qq", np.zeros(5), "'robot_state.qq' is none of embodiment so101. Did you mean 'robot_state.q'"),
        ("robot_state.left.q", np.zeros(5), "is none of embodiment so101"),
        ("depth", np.zeros(5), r"signals=\{'depth': \(6,\)\}"),
        (keys.IMAGE_EXTERIOR, np.zeros((*SIZE, 3), np.uint8), "'exterior' was not declared, only .*front.*cameras="),
        (FRONT, np.zeros((48, 32, 3), np.uint8), r"expected uint8 of shape \(32, 48, 3\).*Height comes first"),
        (FRONT, np.zeros((*SIZE, 4), np.uint8), r"got uint8 of shape \(32, 48, 4\)"),
        (FRONT, np.zeros((*SIZE, 3)), "got float64"),
        (FRONT, np.zeros(SIZE, np.uint8), r"got uint8 of shape \(32, 48\)"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused(episode, name, value, message):
    """By the robot's joints, the declared cameras, and what was recorded before."""
    with pytest.raises(PositronicError, match=message):
        episode.append({name: value}, time_ns=2 * 10**9)


@pytest.mark.parametrize("name", [keys.EE_POSE, keys.COMMAND_POSE])
@pytest.mark.parametrize(
    ("pose", "message"),
    [
        ([0.3, 0, 0.2, 0.7, 0, 0, 0], "the last four have a norm of 0.7"),
        ([0.3, 0, 0.2, 0, 0, 0], r"x, y, z, qw, qx, qy, qz \(shape \(7,\)\); got shape \(6,\)"),
        ([np.nan, *POSE[1:]], "is not finite"),
    ],
)
def test_a_pose_has_a_unit_quaternion(franka, name, pose, message):
    """Euler angles and rotation vectors are neither of this size nor of this norm."""
    with franka.episode() as episode:
        episode.append({name: POSE}, time_ns=0)
        with pytest.raises(PositronicError, match=message):
            episode.append({name: pose}, time_ns=STEP_NS)
        episode.discard()


def test_of_a_refused_append_nothing_is_recorded(so101):
    """The others of its samples neither, so that a script may go on."""
    with so101.episode() as episode:
        append(episode, 10)
        with pytest.raises(PositronicError, match="is not finite"):
            episode.append(sample(10, **{keys.TARGET_GRIP: np.nan}), time_ns=10 * STEP_NS)
        episode.append(sample(10), time_ns=10 * STEP_NS)
    saved = positronic.open_raw(so101.root)[-1]
    assert {len(saved[name].times_ns) for name in saved.signals} == {11}


def test_a_declared_camera_that_sent_nothing_is_an_error(so101, capsys):
    """An unplugged camera would be found out when it is too late."""
    with (
        pytest.raises(PositronicError, match="declared cameras that sent no frame: front, and is not saved"),
        so101.episode() as episode,
    ):
        episode.append({keys.IMAGE_WRIST: sample(0)[keys.IMAGE_WRIST]}, time_ns=0)
    assert f"Episode {episode.id} dropped: PositronicError" in capsys.readouterr().out
    assert not episode.path.exists()


@pytest.mark.parametrize(
    ("stamps", "message"), [([], "has no sample in it"), ([0, 20_000], "lasts 20000 ns, .*expected at least 10000000")]
)
def test_an_episode_of_nothing_is_not_saved(franka, stamps, message):
    """Readers would call it a bad one."""
    episode = franka.episode()
    for time_ns in stamps:
        episode.append({keys.GRIP: 0.0}, time_ns=time_ns)
    with pytest.raises(PositronicError, match=message), episode:
        pass
    assert not episode.path.exists()


def test_one_episode_after_the_other(so101):
    """Inside of one there is no other; outside of the recorder there is none."""
    with so101.episode() as episode:
        with pytest.raises(PositronicError, match="Leave its `with` block"):
            so101.episode()
        episode.discard()
    with pytest.raises(PositronicError, match="Recording has not begun"):
        positronic.record("x", "so101", task="x").episode()


def test_an_episode_needs_a_task(tmp_path):
    """Its own or the recorder's."""
    with positronic.record(tmp_path / "raw", "so101") as recorder:
        for task in (None, "", " ", 3):
            with pytest.raises(PositronicError, match=r"needs a task, as text: recorder\.episode\(task="):
                recorder.episode(task)


def test_what_is_noted_is_no_signal_and_noted_once(episode):
    """Both are found by one name."""
    with pytest.raises(PositronicError, match="that is the name of a signal"):
        episode.note(keys.GRIP, 1)
    episode.note("operator", "Ada")
    with pytest.raises(PositronicError, match="has a static of that name already"):
        episode.note("operator", "Bob")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"embodiment": "so100"}, "embodiment='so100': expected one of .*Did you mean 'so101'"),
        ({"embodiment": "nowhere.yaml"}, "nowhere.yaml describes no embodiment.*No such file"),
        ({"cameras": {"top": SIZE}}, "Camera 'top' is none of embodiment so101, which has front, wrist"),
        ({"cameras": {"front": (31, 48)}}, r"cameras=\{'front': \(31, 48\)\}: expected \(height, width\)"),
        ({"cameras": {"front": 640}}, r"expected \(height, width\)"),
        ({"signals": {"grip": ()}}, "this name is taken"),
        ({"signals": {"task": ()}}, "this name is taken"),
        ({"signals": {"image.top": (3,)}}, "this name is taken"),
        ({"signals": {"a/b": (3,)}}, "becomes a file's name"),
        ({"signals": {"force": 6}}, r"expected the shape of a sample: \(\) for one number"),
        ({"path": "s3://bucket/raw"}, "cannot wait for a network"),
        ({"frames_held": 0}, "frames_held=0: expected a whole number from 1 on"),
    ],
)
def test_a_recorder_that_cannot_be_is_refused_at_once(given, message):
    """Before anything is started or made."""
    with pytest.raises(PositronicError, match=message):
        positronic.record(**{"path": "x", "embodiment": "so101"} | given)


def test_more_memory_than_there_is_is_refused(tmp_path):
    """With what would fit."""
    recorder = positronic.record(tmp_path / "raw", "so101", cameras={"front": (8192, 8192)}, frames_held=10**6)
    with pytest.raises(PositronicError, match=r"MiB are free. Hold fewer: .*frames_held=\d+"), recorder:
        pass
    assert not (tmp_path / "raw").exists()
