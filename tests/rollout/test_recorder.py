"""What a tick becomes in a raw episode."""

from dataclasses import replace

import numpy as np
import pytest

from positronic import keys
from positronic.commands import ActionStep, ArmAction, CartesianPosition, JointDelta, JointPosition, Reset
from positronic.embodiments.published import FRANKA
from positronic.hardware.robot import RobotContract
from positronic.hardware.sim.tasks.stack import SCORES
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter
from positronic.rollout.recorder import EpisodeRecorder, robot_statics

POSE = np.array([0.5, 0, 0.2, 0, 1, 0, 0])


def recorded(tmp_path, *ticks, statics=None):
    with DatasetWriter(tmp_path).new_episode() as writer:
        recorder = EpisodeRecorder(writer)
        for tick in ticks:
            recorder.tick(*tick)
        recorder.statics(statics or {})
    return open_dataset(tmp_path)[0]


def test_observation_command_and_scores_share_the_tick(tmp_path):
    """Everything of a tick is stamped alike."""
    image = np.zeros((16, 16, 3), np.uint8)
    seen = {keys.GRIP: 0.25, keys.IMAGE_WRIST: image}
    episode = recorded(tmp_path, (7, seen, ActionStep.of_one(CartesianPosition(POSE), 1.0), {SCORES.score: 0.5}))
    names = {keys.GRIP, keys.IMAGE_WRIST, keys.COMMAND_POSE, keys.TARGET_GRIP, SCORES.score}
    assert set(episode.signals) == names
    assert all(episode[name].times_ns.tolist() == [7] for name in names)


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        (CartesianPosition(POSE), keys.COMMAND_POSE, [POSE.tolist()]),
        (JointPosition(np.arange(7.0)), keys.COMMAND_JOINTS, [list(range(7))]),
        (JointDelta(np.arange(7.0)), keys.COMMAND_JOINT_DELTAS, [list(range(7))]),
        (Reset(), keys.COMMAND_RESET, [1]),
    ],
)
def test_each_command_has_its_signal(tmp_path, command, name, value):
    """A command is recorded under the published name of its kind."""
    assert recorded(tmp_path, (0, {}, ActionStep.of_one(command, 0.0)))[name].values.tolist() == value


def test_a_tick_without_a_command_records_the_observation_alone(tmp_path):
    """A robot may be looked at more often than it is told something."""
    episode = recorded(tmp_path, (0, {keys.GRIP: 0.0}, ActionStep.of_one(Reset(), 0.0)), (5, {keys.GRIP: 0.1}))
    assert episode[keys.GRIP].times_ns.tolist() == [0, 5]
    assert episode[keys.TARGET_GRIP].times_ns.tolist() == [0]


def test_statics_are_recorded(tmp_path):
    """What holds for the whole episode is in its statics."""
    assert recorded(tmp_path, (0, {keys.GRIP: 0.0}), statics={keys.TASK: "Go."}).statics == {keys.TASK: "Go."}


def test_each_arm_has_signals_of_its_own(tmp_path):
    """What two arms are told at one moment; an arm without a gripper has none."""
    left, right = ArmAction(JointPosition(np.arange(6.0)), 0.5), ArmAction(Reset())
    episode = recorded(tmp_path, (3, {keys.GRIP: 0.0}, ActionStep({"left": left, "right": right})))
    assert set(episode.signals) == {
        "grip",
        "robot_commands.left.joints",
        "target_grip.left",
        "robot_commands.right.reset",
    }
    assert all(signal.times_ns.tolist() == [3] for signal in episode.signals.values())


def test_the_robot_is_noted_where_it_is_known():
    """So that the recording converts without being told of which robot it is."""
    known = RobotContract("sim", {}, frozenset(), {}, embodiment=FRANKA)
    assert robot_statics(known) == {keys.EMBODIMENT: FRANKA.to_dict()}
    assert robot_statics(replace(known, embodiment=None)) == {}
