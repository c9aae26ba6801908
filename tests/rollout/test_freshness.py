"""A policy is not asked about what is no longer true."""

import numpy as np
import pytest

from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.factory import open_robot
from positronic.hardware.replay.config import ReplayConfig
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.rollout.config import DriverConfig
from positronic.rollout.freshness import FreshnessCheck, StaleSignal
from positronic.rollout.results import ABORTED, STALE, TIMEOUT
from positronic.rollout.runner import run_episode

NS = 10**9
BACKGROUND = np.random.default_rng(0).integers(60, 120, (48, 64, 3)).astype(np.uint8)


def picture(x):
    image = BACKGROUND.copy()
    left = 4 + round(100 * x)
    image[10:38, left : left + 4] = 230
    return image


def driver(**values):
    return DriverConfig("timed", simulation_time=5.0, **values)


@pytest.fixture
def camera_robot(point_robot):
    """``camera_robot(dies_sec, told=...)``: a robot whose camera shows where the tool is, and hangs from then on;
    ``told``: it says when the picture was taken."""

    class CameraRobot(type(point_robot)):
        def __init__(self, dies_sec):
            self.dies_ns = int(dies_sec * NS)
            super().__init__()

        def reset(self, seed):
            super().reset(seed)
            self.shown = picture(self.pose[0])

        def observe(self):
            if self.time_ns <= self.dies_ns:
                self.shown = picture(self.pose[0])
            return super().observe() | {keys.IMAGE_WRIST: self.shown}

        def metrics(self):
            return {"reached": 0.0}

    class StampedRobot(CameraRobot):
        def measured_ns(self):
            return {keys.IMAGE_WRIST: min(self.time_ns, self.dies_ns)}

    return lambda dies_sec, told=False: (StampedRobot if told else CameraRobot)(dies_sec)


@pytest.fixture
def sway(approach):
    """A policy that moves the tool by 2 cm a step, to and fro; with ``speed`` 0 it stays."""

    class Sway(approach):
        def __init__(self, speed=0.02):
            super().__init__(steps=2)
            self.speed = speed

        def infer(self, observation):
            chunk = super().infer(observation)
            for number, step in enumerate(chunk):
                phase = observation[keys.OBS_TIME_NS] // 10**8 + number
                step.command.pose[:3] = [0.4 + self.speed * min(phase % 10, 10 - phase % 10), 0.0, 0.3]
            return chunk

    return Sway


def test_a_dead_camera_ends_the_episode_by_its_stamp(camera_robot, sway, writer):
    """Camera, age and limit are named; the episode ends a second after the last picture."""
    result = run_episode(camera_robot(1.0, told=True), sway(), writer, 0, driver())
    assert (result.outcome, result.duration_sec) == (ABORTED, 2.1)
    assert "'image.wrist' was measured 1.10 s before (allowed: driver.max_staleness_sec=1" in result.reason


def test_a_picture_that_stays_while_the_arm_moves_ends_the_episode(camera_robot, sway, writer):
    """No stamp says it, the picture does."""
    result = run_episode(camera_robot(1.0), sway(), writer, 0, driver())
    assert result.outcome == ABORTED
    assert 2.0 < result.duration_sec < 2.6
    assert "'image.wrist' shows the picture of 0.90 s, but the arm moved since" in result.reason


def test_an_arm_that_stands_still_may_be_seen_so(camera_robot, sway, writer):
    """The same picture for 5 s."""
    assert run_episode(camera_robot(1.0), sway(speed=0), writer, 0, driver()).outcome == TIMEOUT


def test_any_age_is_allowed_when_that_is_said(camera_robot, sway, writer):
    """driver.max_staleness_sec=null."""
    robot = camera_robot(1.0, told=True)
    assert run_episode(robot, sway(), writer, 0, driver(max_staleness_sec=None)).outcome == TIMEOUT


def test_a_stale_signal_can_end_the_episode_alone(camera_robot, sway, writer):
    """driver.on_stale=stop: recorded as stale, with the reason, and the run goes on."""
    result = run_episode(camera_robot(1.0, told=True), sway(), writer, 0, driver(on_stale="stop"))
    assert result.outcome == STALE
    assert "image.wrist" in result.reason


def test_a_rollout_holds_each_signal_when_it_was_measured(camera_robot, sway, writer):
    """The dead camera's last picture is recorded once, with its own stamp, and the policy is told of it."""
    policy = sway()
    run_episode(camera_robot(1.05, told=True), policy, writer, 0, driver())
    writer.finish()
    episode = open_dataset(writer.path.parent.parent)[0]
    assert episode[keys.IMAGE_WRIST].times_ns[-1] == 1_050_000_000
    assert episode[keys.EE_POSE].times_ns[-1] == 2_000_000_000
    assert policy.seen[-1][keys.MEASURED_TIMES_NS] == {
        keys.EE_POSE: 2_000_000_000,
        keys.GRIP: 2_000_000_000,
        keys.IMAGE_WRIST: 1_050_000_000,
    }


@pytest.fixture
def recording(tmp_path):
    """``recording(camera_until_sec, hangs_sec)``: 5 s at 10 Hz of an arm that moves."""

    def make(camera_until_sec=5.0, hangs_sec=5.0):
        with DatasetWriter(tmp_path / "raw").new_episode() as episode:
            for k in range(51):
                time_ns = k * NS // 10
                pose = np.array([0.2 + 0.04 * k / 10, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0])
                for name in (keys.EE_POSE, keys.COMMAND_POSE):
                    episode.append(name, pose, time_ns)
                episode.append(keys.GRIP, 0.0, time_ns)
                if k / 10 <= camera_until_sec:
                    episode.append(keys.IMAGE_WRIST, picture(0.04 * min(k / 10, hangs_sec)), time_ns)
        return ReplayConfig("replay", path=str(tmp_path / "raw"))

    return make


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({}, None),
        ({"camera_until_sec": 1.0}, r"At 2.10 s 'image.wrist' was measured 1.10 s before"),
        ({"hangs_sec": 1.0}, r"'image.wrist' shows the picture of [01]\.\d+ s, but the arm moved since"),
    ],
)
def test_a_replayed_recording_is_held_to_its_stamps_and_pictures(recording, sway, writer, broken, says):
    """What was recorded says when it was; a whole recording plays to its end."""
    robot = open_robot(recording(**broken))
    result = run_episode(robot, sway(speed=0), writer, 0, driver())
    robot.close()
    if says is None:
        assert (result.reason, result.duration_sec) == (None, 5.0)
    else:
        with pytest.raises(PositronicError, match=says):
            raise PositronicError(result.reason)


def test_a_camera_of_two_arms_is_stale_when_either_moves_and_a_wrist_camera_when_its_own_does():
    """The right arm moves; both pictures stay for two seconds."""
    cameras = {"top": "exterior", "hand": "left_wrist"}
    still, moving = np.zeros(6), lambda k: np.full(6, 0.05 * k)

    def follow(camera):
        check = FreshnessCheck(1.0, cameras)
        for k in range(30):
            seen = {"robot_state.left.q": still, "robot_state.right.q": moving(k), camera: picture(0.1)}
            check.check(k * NS // 10, seen, dict.fromkeys(seen, k * NS // 10))

    follow("image.hand")
    with pytest.raises(StaleSignal, match=r"At 1\.5\d* s 'image.top' shows the picture of 0.00 s"):
        follow("image.top")
