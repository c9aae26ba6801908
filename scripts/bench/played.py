"""Scenes of the simulator that a policy plays, from noise of their own: from the start, and from where the expert has
finished."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from positronic.errors import PositronicError
from positronic.serving.failures import Failure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from positronic.commands import ActionStep
    from positronic.hardware.config import HardwareConfig
    from positronic.hardware.sim.robot import SimRobot
    from positronic.rollout.runner import Course
    from positronic.serving.policy import ServedPolicy

FIRST_SEED = 1000  # of the scenes; demonstrations are of 100000 on
LIFTED = 0.02  # m that red has risen
STACKED = 0.95  # of the score
AFTER_SEC = 3.0  # that a policy goes on when the expert has finished
EXPERT_SEC = 14.0  # that it has for that
FROM_START = ("stacked, %", "lifted, %", "tool to red, nearest, cm")
FROM_END = ("stands after the end, %", "path after the end, cm", "off after the end, cm")


@dataclass(frozen=True)
class Played:
    """Which scenes, and how. ``played``: steps of each chunk. ``seconds``: of a scene that is played from its start.
    ``seed``: of the noise."""

    scenes: int
    played: int
    seconds: float
    seed: int


class FromNoise:
    """``policy`` in one scene, as the rollout's loop wants it. ``played``: steps of each chunk. ``seed``: of the
    noise."""

    def __init__(self, policy: ServedPolicy, played: int, seed: list[int]) -> None:
        self._policy, self._played, self._generator = policy, played, np.random.default_rng(seed)
        self.meta = policy.meta

    def reset(self) -> None:
        """Nothing to forget."""

    def infer(self, observation: Mapping[str, Any]) -> list[ActionStep]:
        """Raises PositronicError when the model fails."""
        chunk = self._policy.chunks_each([self._policy.encode(dict(observation))], [self._generator])[0]
        if isinstance(chunk, Failure):
            raise PositronicError(chunk.reason)
        return self._policy.recipe.codec.decode(chunk)[: self._played]

    def close(self) -> None:
        """Nothing to free."""


@dataclass
class Truth:
    """Where tool and red cube were, (3,) in m each, at each moment that the loop records."""

    robot: SimRobot
    tools: list[NDArray[np.float64]] = field(default_factory=list)
    reds: list[NDArray[np.float64]] = field(default_factory=list)

    def tick(self, *_: Any) -> None:
        """A moment."""
        state = self.robot.scene_state()
        self.tools.append(state.tcp.copy())
        self.reds.append(state["red"].position.copy())


def play(policy: ServedPolicy, hardware: HardwareConfig, how: Played) -> dict[str, NDArray[np.float64]]:
    """Name of an outcome -> (scenes,), NaN where the expert did not finish."""
    from positronic.hardware.factory import open_robot

    rows = []
    with closing(open_robot(hardware)) as robot:
        for scene in range(how.scenes):
            robot.reset(FIRST_SEED + scene)
            started = from_start(*loop(robot, policy, how, scene, how.seconds))
            robot.reset(FIRST_SEED + scene)
            ended = [np.nan] * len(FROM_END)
            if expert_finishes(robot):
                ended = from_end(*loop(robot, policy, how, scene, robot.time_ns / 1e9 + AFTER_SEC))
            rows.append([*started, *ended])
    return dict(zip((*FROM_START, *FROM_END), np.array(rows).T, strict=True))


def loop(robot: SimRobot, policy: ServedPolicy, how: Played, scene: int, until_sec: float) -> tuple[Course, Truth]:
    """``policy`` moves ``robot`` from now on."""
    from positronic.rollout.config import DriverConfig
    from positronic.rollout.runner import Loop

    truth, succeeded = Truth(robot), robot.time_ns > 0  # the expert has
    driver = DriverConfig(
        "timed", simulation_time=until_sec, stop_on_success=not succeeded, max_staleness_sec=None
    )  # the wrist's camera may see nothing but the sky, which never changes
    one = Loop(robot, FromNoise(policy, how.played, [how.seed, scene]), truth, driver, robot.config.task, scene)
    one.run()
    return one.course, truth


def expert_finishes(robot: SimRobot) -> bool:
    """Let the expert play the scene, to where demonstrations end. Whether it got there."""
    from positronic.hardware.robot import tick_ns

    fps, judge, expert = robot.config.control_fps, robot.judge(), robot.task.expert()
    for tick in range(round(EXPERT_SEC * fps)):
        state = robot.scene_state()
        if judge.update(robot.time_ns, robot.metrics()) and expert.is_done(state):
            return True
        step = expert.decide(state).step
        robot.command(step.command, step.target_grip)
        robot.advance(tick_ns(tick + 1, fps))
    return False


def from_start(course: Course, truth: Truth) -> list[float]:
    """In the order of ``FROM_START``."""
    tools, reds = np.array(truth.tools), np.array(truth.reds)
    lifted = (reds[:, 2] - reds[0, 2]).max() > LIFTED
    nearest = np.linalg.norm(tools - reds, axis=1).min()
    return [100.0 * (course.success_ns is not None), 100.0 * bool(lifted), 100.0 * float(nearest)]


def from_end(course: Course, truth: Truth) -> list[float]:
    """In the order of ``FROM_END``."""
    from positronic.hardware.sim.tasks.stack import SCORES

    tools = np.array(truth.tools)
    stands = course.metrics[SCORES.score][-1][1] >= STACKED
    path = np.linalg.norm(np.diff(tools, axis=0), axis=1).sum()
    off = np.linalg.norm(tools - tools[0], axis=1).max()
    return [100.0 * stands, 100.0 * float(path), 100.0 * float(off)]
