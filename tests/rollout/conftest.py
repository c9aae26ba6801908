"""The smallest robot that can be told where to go, and policies that tell it."""

import numpy as np
import pytest

from positronic import keys
from positronic.commands import ActionStep, CartesianPosition, JointPosition
from positronic.hardware.robot import RobotContract
from positronic.raw.writer import DatasetWriter

GOAL = np.array([0.5, 0.0, 0.1])


class PointRobot:
    """A tool that is at once where it is told to be; its score is 1 while it is within 1 cm of GOAL."""

    contract = RobotContract("point", {keys.EE_POSE: (7,), keys.GRIP: ()}, frozenset({CartesianPosition.kind}), {})

    def __init__(self):
        self.reset(0)

    def reset(self, seed):
        self.time_ns = 0
        self.pose = np.array([0.4, 0.01 * seed, 0.3, 1.0, 0.0, 0.0, 0.0])
        self.grip = 0.0

    def observe(self):
        return {keys.EE_POSE: self.pose.copy(), keys.GRIP: self.grip}

    def command(self, command, target_grip):
        self.contract.require_command(command)
        self.pose, self.grip = command.pose.copy(), target_grip

    def advance(self, until_ns):
        assert until_ns >= self.time_ns
        self.time_ns = until_ns

    def metrics(self):
        return {keys.SCORE: float(np.linalg.norm(self.pose[:3] - GOAL) < 0.01)}

    def statics(self):
        return {keys.TASK: "Reach."}

    def close(self):
        pass


class Approach:
    """Goes to GOAL in ``steps`` steps at 10 Hz; remembers the observations it was sent."""

    def __init__(self, steps=4, command=CartesianPosition):
        self.meta = {keys.META_TYPE: "approach", keys.META_ACTION_FPS: 10.0, "server": {"size": (1, 2), "id": None}}
        self.steps, self.kind, self.seen, self.resets = steps, command, [], 0

    def reset(self):
        self.resets += 1

    def infer(self, observation):
        self.seen.append(observation)
        start = observation[keys.EE_POSE]
        shares = (np.arange(self.steps) + 1) / self.steps
        places = [np.append(start[:3] + share * (GOAL - start[:3]), start[3:]) for share in shares]
        return [ActionStep(self.kind(place), 0.0, k / 10) for k, place in enumerate(places)]

    def close(self):
        pass


@pytest.fixture
def point_robot():
    return PointRobot()


@pytest.fixture
def approach():
    """The class of a policy: ``approach(steps=4, command=CartesianPosition)``."""
    return Approach


@pytest.fixture
def joint_command():
    return JointPosition


@pytest.fixture
def writer(tmp_path):
    """An episode that is being recorded."""
    return DatasetWriter(tmp_path / "rollouts").new_episode()
