"""What makes demonstrations instructive: disturbed execution, and starts after a failed grasp.

Both are drawn from a seed before the episode begins, so the same seed gives the same episode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from positronic.commands import ActionStep, CartesianPosition
from positronic.hardware.robot import tick_ns
from positronic.hardware.sim.config import ThingConfig
from positronic.hardware.sim.expert import CLOSED, TRAVEL, Decision, down_quat, down_yaw
from positronic.hardware.sim.robot import SimRobot

Floats = NDArray[np.float64]

WHITE_SIGMA = 0.0025  # m per axis
BURST_CHANCE = 0.10  # per control step
BURST_STEPS = (1, 3)
BURST_SIGMA = 0.012  # m per axis
BURST_YAW_SIGMA = 0.1  # rad
MIN_HEIGHT = 0.016  # m; noise does not push the fingers into the table

NEAR = 0.6  # share of recovery starts beside the thing, the others anywhere
NEAR_DISTANCE = (0.025, 0.07)  # m
NEAR_HEIGHT = (0.02, 0.12)  # m
FAR_HEIGHT = (0.06, 0.16)  # m
DETOUR_HEIGHT = 0.12  # m at least, from where the tool comes down


@dataclass(frozen=True)
class Disturbance:
    """What is added to the executed command, but not to its label, at each control step of an episode.

    DART (Laskey et al., CoRL 2017): the expert is seen correcting errors that it would not make itself.
    ``offsets`` (T, 3) m, ``yaws`` (T,) rad.
    """

    offsets: Floats
    yaws: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, num_steps: int, scale: float = 1.0) -> Disturbance:
        """White noise, and now and then a push of a few steps; ``scale`` 0 is none."""
        offsets = rng.normal(0, WHITE_SIGMA, (num_steps, 3))
        yaws = np.zeros(num_steps)
        for start in np.flatnonzero(rng.random(num_steps) < BURST_CHANCE):
            push = slice(start, start + rng.integers(*BURST_STEPS, endpoint=True))
            offsets[push] += rng.normal(0, BURST_SIGMA, 3)
            yaws[push] += rng.normal(0, BURST_YAW_SIGMA)
        return cls(scale * offsets, scale * yaws)

    def apply(self, tick: int, decision: Decision) -> ActionStep:
        """What to execute at control step ``tick``: disturbed on the way, exact where the thing is handled."""
        if decision.phase not in TRAVEL:
            return decision.step
        pose = decision.step.command.pose
        position = pose[:3] + self.offsets[tick]
        position[2] = max(position[2], min(MIN_HEIGHT, pose[2]))
        yaw = down_yaw(pose[3:]) + self.yaws[tick]
        command, step = CartesianPosition(np.concatenate([position, down_quat(yaw)])), decision.step
        return ActionStep.of_one(command, step.target_grip, step.timestamp)


@dataclass(frozen=True)
class RecoveryStart:
    """A closed and empty gripper at ``position`` (3,) m, turned by ``yaw`` rad: where a missed grasp leaves it."""

    position: Floats
    yaw: float

    @classmethod
    def draw(cls, rng: np.random.Generator, thing: ThingConfig, position: Floats) -> RecoveryStart:
        """A start beside ``thing`` at ``position`` (3,), more often than not, or anywhere that it may start."""
        yaw = rng.uniform(*thing.yaw)
        if rng.random() < NEAR:
            distance, angle = rng.uniform(*NEAR_DISTANCE), rng.uniform(0, 2 * np.pi)
            place = position[:2] + distance * np.array([np.cos(angle), np.sin(angle)])
            return cls(np.append(place, rng.uniform(*NEAR_HEIGHT)), yaw)
        place = [rng.uniform(*thing.x), rng.uniform(*thing.y)]
        return cls(np.append(place, rng.uniform(*FAR_HEIGHT)), yaw)


def recovery_preroll(robot: SimRobot, start: RecoveryStart) -> None:
    """Bring the robot to ``start`` from above; one second passes, so that control steps keep their place in it."""
    fps = robot.config.control_fps
    above = np.append(start.position[:2], max(start.position[2], DETOUR_HEIGHT))
    begin_ns = robot.time_ns
    for position, ticks in ((above, fps // 2), (start.position, fps)):
        robot.command(CartesianPosition(np.concatenate([position, down_quat(start.yaw)])), CLOSED)
        robot.advance(begin_ns + tick_ns(ticks, fps))
