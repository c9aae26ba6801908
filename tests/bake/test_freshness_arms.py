"""Two arms are judged one by one: each is held against its own recording, and a camera against what it sees."""

from dataclasses import replace

import numpy as np
import pytest

from positronic import keys
from positronic.bake.freshness import require_arm_to_the_end, require_fresh_vectors, require_moving_picture
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.freshness import StillRun, moving_signals, seen_arms
from positronic.raw.dataset import open_dataset
from positronic.raw.faults import BadEpisode
from positronic.raw.writer import DatasetWriter

NS, FPS, SECONDS = 10**9, 15, 5
TIMES_NS = np.arange(SECONDS * FPS + 1) * NS // FPS
SIX = Arm("left", ("a", "b", "c", "d", "e", "f"), ee_frame=None)
ROBOT = Embodiment("pair", (SIX, replace(SIX, name="right")), {"top": "exterior", "hand": "left_wrist"})
TOP, HAND = "image.top", "image.hand"
ALL_THE_TIME = [StillRun(0, len(TIMES_NS) - 1)]


def still(time_sec):
    return 0.0


def dies(time_sec):
    return np.sin(min(time_sec, 1.0))


@pytest.fixture
def recording(tmp_path):
    """``recording(left, right)``: 5 s of two arms whose joints are where these functions of seconds say, and were told
    to be where ``told`` says of them."""

    def make(left=np.sin, right=np.sin, told=np.sin):
        with DatasetWriter(tmp_path / "raw").new_episode() as episode:
            episode.set_static(keys.EMBODIMENT, ROBOT.to_dict())
            for k, time_ns in enumerate(TIMES_NS.tolist()):
                for arm, course in {"left": left, "right": right}.items():
                    command = still if course is still else told
                    episode.append(keys.of_arm(keys.JOINT_POSITION, arm), np.full(6, course(k / FPS)), time_ns)
                    episode.append(keys.of_arm(keys.COMMAND_JOINTS, arm), np.full(6, command(k / FPS)), time_ns)
                    episode.append(keys.of_arm(keys.GRIP, arm), 0.5 + 0.5 * course(k / FPS), time_ns)
                    episode.append(keys.of_arm(keys.TARGET_GRIP, arm), 0.5 + 0.5 * command(k / FPS), time_ns)
        return open_dataset(tmp_path / "raw")[-1]

    return make


def test_an_arm_that_stopped_being_read_is_found_by_its_own_commands(recording):
    """From 1 s on nothing new comes from the right arm, which is told to move on; its gripper too."""
    episode = recording(right=dies)
    with pytest.raises(
        BadEpisode, match=r"'robot_state.right.q' stands still from 1.00 s .*'robot_commands.right.join"
    ):
        require_fresh_vectors(episode, ["robot_state.left.q", "robot_state.right.q"], TIMES_NS, 1.0)
    with pytest.raises(BadEpisode, match=r"'grip.right' stands still from 1.00 s .*'target_grip.right' moves"):
        require_fresh_vectors(episode, ["grip.left", "grip.right"], TIMES_NS, 1.0)


def test_an_arm_that_rests_while_the_other_works_is_no_fault(recording):
    """Nothing of its own contradicts it."""
    episode = recording(right=still)
    require_fresh_vectors(episode, sorted(episode.signals), TIMES_NS, 1.0)


def test_a_camera_above_sees_either_arm_and_a_wrist_camera_its_own(recording):
    """The right arm moves: one picture for 5 s is a fault of the camera above, and right at the left wrist."""
    episode = recording(left=still)
    with pytest.raises(BadEpisode, match=r"'image.top' shows the same picture .* 'robot_state.right.q' moves"):
        require_moving_picture(episode, TOP, ALL_THE_TIME, TIMES_NS, 1.0)
    require_moving_picture(episode, HAND, ALL_THE_TIME, TIMES_NS, 1.0)
    with pytest.raises(BadEpisode, match=r"'image.hand' .* 'robot_state.left.q' moves"):
        require_moving_picture(recording(), HAND, ALL_THE_TIME, TIMES_NS, 1.0)


def test_an_episode_ends_early_when_both_arms_do(recording):
    """One that stops while the other goes on is at rest; after the end of both, pictures that change tell more."""
    pictures = {TOP: [StillRun(0, 0)]}
    require_arm_to_the_end(recording(right=dies), pictures, TIMES_NS, 1.0)
    with pytest.raises(BadEpisode, match=r"q' stands still from 1.00 s .* it moved until then and 'image.top' shows"):
        require_arm_to_the_end(recording(left=dies, right=dies), pictures, TIMES_NS, 1.0)


def test_signals_are_sorted_by_arm():
    """In the order in which they are asked for, and those of an only arm under its empty name."""
    names = ["grip.left", "robot_state.left.q", "robot_state.right.q", "robot_state.right.ee_pose", "image.left"]
    right = ["robot_state.right.ee_pose", "robot_state.right.q"]
    assert moving_signals(names) == {"left": ["robot_state.left.q"], "right": right}
    assert moving_signals([keys.JOINT_POSITION]) == {"": [keys.JOINT_POSITION]}


@pytest.mark.parametrize(
    ("role", "arms", "seen"),
    [
        ("exterior", ["left", "right"], ["left", "right"]),
        ("left_wrist", ["left", "right"], ["left"]),
        ("cam_right_wrist", ["left", "right"], ["right"]),
        ("wrist", ["left", "right"], []),
        ("wrist", [""], [""]),
        ("left_exterior", ["left", "right"], ["left", "right"]),
    ],
)
def test_which_arms_a_camera_cannot_miss(role, arms, seen):
    """A role that names the wrist of one arm says that the camera moves with it."""
    assert seen_arms(role, arms) == seen
