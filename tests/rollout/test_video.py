"""Rollouts as videos for people."""

import av
import numpy as np
import pytest

from positronic import keys
from positronic.commands import CartesianPosition, JointPosition
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.rollout.results import EpisodeResult
from positronic.rollout.video import (
    caption,
    choose,
    film,
    frame_times,
    lasting,
    recorded_commands,
    run_again,
    write_mp4,
)

STEP_NS = 100_000_000


def result(index, outcome, **values):
    return EpisodeResult(index, index, outcome, "", "", **{"duration_sec": 0.3, **values})


@pytest.fixture
def episode(tmp_path):
    """Four ticks at 10 Hz with one small camera; poses are commanded, but joints at the third tick."""
    with DatasetWriter(tmp_path / "rollouts").new_episode() as writer:
        for k in range(4):
            writer.append(keys.IMAGE_WRIST, np.full((16, 24, 3), 60 * k, np.uint8), k * STEP_NS)
            writer.append(keys.TARGET_GRIP, k / 10, k * STEP_NS)
            name, value = (keys.COMMAND_JOINTS, np.ones(7)) if k == 2 else (keys.COMMAND_POSE, np.full(7, float(k)))
            writer.append(name, value, k * STEP_NS)
    return open_dataset(tmp_path / "rollouts")[0]


class Stage:
    """A robot with a camera for people; notes what was done to it."""

    def __init__(self):
        self.done = []

    def reset(self, seed):
        self.done.append(("reset", seed))

    def command(self, command, target_grip, arm=""):
        self.done.append((type(command), target_grip))

    def advance(self, until_ns):
        self.done.append(until_ns)

    def render(self, camera, height, width):
        return np.full((height, width, 3), 200, np.uint8)


def decoded(path):
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return context.name, context.pix_fmt, [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_commands_come_back_in_order_of_time(episode):
    """Kinds are mixed as they were, each with the gripper of its moment."""
    played = recorded_commands(episode)
    assert [one.time_ns for one in played] == [0, STEP_NS, 2 * STEP_NS, 3 * STEP_NS]
    assert [type(one.command) for one in played] == [
        CartesianPosition,
        CartesianPosition,
        JointPosition,
        CartesianPosition,
    ]
    assert [one.target_grip for one in played] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_commands_of_two_arms_come_back_with_their_arms(tmp_path):
    """At one moment, arm after arm; an arm without a gripper has none."""
    with DatasetWriter(tmp_path / "rollouts").new_episode() as writer:
        for k in range(2):
            writer.append("robot_commands.left.joints", np.ones(6), k * STEP_NS)
            writer.append("target_grip.left", 0.5, k * STEP_NS)
            writer.append("robot_commands.right.pose", np.ones(7), k * STEP_NS)
    played = recorded_commands(open_dataset(tmp_path / "rollouts")[0])
    assert [(one.time_ns, one.arm, one.target_grip) for one in played] == [
        *[(0, "left", 0.5), (0, "right", None)],
        *[(STEP_NS, "left", 0.5), (STEP_NS, "right", None)],
    ]


def test_running_again_repeats_commands_at_their_own_times(episode):
    """Between the pictures the robot is stopped at each command's time, so that the physics is the same."""
    stage = Stage()
    list(run_again(stage, episode, 7, np.array([0, 150_000_000, 200_000_000])))
    poses = CartesianPosition
    assert stage.done == [
        *[("reset", 7), 0, (poses, 0.0), 0],
        *[STEP_NS, (poses, 0.1), 150_000_000],
        *[200_000_000, (JointPosition, pytest.approx(0.2)), 200_000_000],
    ]


def test_frames_cover_the_episode_and_show_its_end(episode):
    """15 a second from the start on, and the last moment."""
    cameras = [episode[keys.IMAGE_WRIST]]
    assert frame_times(episode, cameras).tolist() == [0, 66_666_666, 133_333_333, 200_000_000, 266_666_666, 300_000_000]


def test_the_scene_stands_beside_what_the_policy_saw(episode, tmp_path):
    """Every browser's H.264, the scene at the left, the recorded camera at the right, a second of the last frame."""
    film(episode, result(0, "success", success_sec=0.3), Stage(), tmp_path / "videos" / "a.mp4")
    codec, pixels, frames = decoded(tmp_path / "videos" / "a.mp4")
    assert (codec, pixels, len(frames), frames[0].shape) == ("h264", "yuv420p", 6 + 15, (516, 840, 3))
    assert abs(float(frames[-1][:480, :480].mean()) - 200) < 4
    assert abs(float(frames[-1][:240, 480:].mean()) - 180) < 4


def test_a_robot_without_a_camera_for_people_shows_its_own(episode, tmp_path):
    """The recorded camera alone."""
    film(episode, result(0, "replayed"), object(), tmp_path / "a.mp4")
    assert decoded(tmp_path / "a.mp4")[2][0].shape == (516, 720, 3)


def test_successes_and_failures_are_chosen_in_turn():
    """One of each as long as there are both, in order of id."""
    results = [result(i, "timeout" if i in (3, 5) else "success") for i in range(6)]
    assert [one.id for one in choose(results, 1)] == [0]
    assert [one.id for one in choose(results, 3)] == [0, 1, 3]
    assert [one.id for one in choose(results, 99)] == [0, 1, 2, 3, 4, 5]


def test_the_outcome_is_told_when_it_is_known():
    """Success from its moment on; a failure at the end; nothing before."""
    good, bad = result(1, "success", success_sec=0.2), result(1, "timeout")
    assert [caption(good, time).verdict for time in (0.1, 0.2)] == ["", "success at 0.2 s"]
    assert [caption(bad, time).verdict for time in (0.1, 0.3)] == ["", "timeout"]


def test_frames_are_encoded_as_they_come(tmp_path):
    """A second of frames at 5 fps is a second of video, and no frames at all leave no half-made file."""
    frames = [np.full((32, 64, 3), 40 * k, np.uint8) for k in range(3)]
    write_mp4(tmp_path / "a.mp4", lasting(frames, 2), 5)
    shown = decoded(tmp_path / "a.mp4")[2]
    assert [round(float(frame.mean()) / 40) for frame in shown] == [0, 1, 2, 2, 2]
