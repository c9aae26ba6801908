"""Scripted demonstrations: the expert moves the robot, and is recorded. Many of them run in parallel.

A demonstration depends on its seed alone. Its episode id is the position of the seed, so a dataset does not depend on
how many processes made it. A demonstration that failed leaves a gap.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.robot import tick_ns
from positronic.hardware.sim.config import SimConfig
from positronic.hardware.sim.perturbation import Disturbance, RecoveryStart, recovery_preroll
from positronic.hardware.sim.robot import SimRobot
from positronic.raw.writer import DatasetWriter, EpisodeWriter
from positronic.rollout.recorder import EpisodeRecorder, robot_statics
from positronic.utils.pool import WorkerPool, worker_count

NOISE_STREAM = 1  # keeps a demonstration's noise apart from its scene, which is drawn from the bare seed
MAX_FAILURES = 20  # the scene is too hard for the expert if more fail than this, and more than succeed


@dataclass(frozen=True)
class Lesson:
    """``noise``: scale of the disturbance, 0 for none. ``recovery``: share of starts after a failed grasp, 0..1.
    ``time_limit_sec``: an episode that has not succeeded by then has failed."""

    noise: float = 1.0
    recovery: float = 0.2
    time_limit_sec: float = 14.0


@dataclass(frozen=True)
class Demonstration:
    """What became of one seed. ``frames``: control steps recorded, 0 when it failed and was not kept."""

    seed: int
    episode_id: int
    frames: int

    @property
    def success(self) -> bool:
        return self.frames > 0


class Demonstrator:
    """Records demonstrations in ``robot``'s scene into ``writer``; ``first_seed`` is that of episode 0."""

    def __init__(self, robot: SimRobot, writer: DatasetWriter, lesson: Lesson, first_seed: int) -> None:
        self._robot, self._writer, self._lesson, self._first_seed = robot, writer, lesson, first_seed
        self._fps = robot.config.control_fps

    def record(self, seed: int) -> Demonstration:
        """Demonstrate once; the episode is kept only when it ends in a success."""
        self._robot.reset(seed)
        rng = np.random.default_rng([seed, NOISE_STREAM])
        recovering = bool(rng.random() < self._lesson.recovery)
        if recovering:
            handled = self._robot.task.handled
            position = self._robot.scene_state()[handled].position
            start = RecoveryStart.draw(rng, self._robot.config.scene.things[handled], position)
            recovery_preroll(self._robot, start)
        num_steps = round(self._lesson.time_limit_sec * self._fps)
        disturbance = Disturbance.draw(rng, num_steps, self._lesson.noise)
        with self._writer.new_episode(seed - self._first_seed) as episode:
            frames = self._perform(EpisodeRecorder(episode), disturbance)
            if frames:
                self._describe(episode, seed, recovering)
            else:
                episode.abort()
        return Demonstration(seed, episode.id, frames)

    def _perform(self, recorder: EpisodeRecorder, disturbance: Disturbance) -> int:
        judge, expert = self._robot.judge(), self._robot.task.expert()
        begin_ns = self._robot.time_ns  # not 0 after a recovery's preroll
        for tick in range(len(disturbance.yaws)):
            time_ns = tick_ns(tick, self._fps)
            state = self._robot.scene_state()
            decision = expert.decide(state)
            recorder.tick(time_ns, self._robot.observe(), decision.step)
            if judge.update(time_ns, self._robot.metrics()) and expert.is_done(state):
                return tick + 1
            executed = disturbance.apply(tick, decision)
            self._robot.command(executed.command, executed.target_grip)
            self._robot.advance(begin_ns + tick_ns(tick + 1, self._fps))
        return 0

    def _describe(self, episode: EpisodeWriter, seed: int, recovering: bool) -> None:
        lesson = {"noise": self._lesson.noise, "recovery": recovering}
        facts = {keys.SIMULATION_PREFIX + name: value for name, value in lesson.items()}
        outcome = {keys.EVAL_SEED: seed, keys.EVAL_SUCCESS: True}
        robot = robot_statics(self._robot.contract)
        EpisodeRecorder(episode).statics(self._robot.statics() | robot | facts | outcome)


@contextlib.contextmanager
def demonstrator(config: SimConfig, root: Path, lesson: Lesson, first_seed: int) -> Iterator[Callable]:
    """What a worker process does: yields ``record`` of a Demonstrator with a robot of its own."""
    robot = SimRobot(config)
    try:
        yield Demonstrator(robot, DatasetWriter(root), lesson, first_seed).record
    finally:
        robot.close()


def demonstrate(
    config: SimConfig,
    root: Path,
    lesson: Lesson,
    first_seed: int,
    num_episodes: int,
    num_workers: int = 0,
    done: Mapping[int, bool] | None = None,
) -> Iterator[Demonstration]:
    """Record the first ``num_episodes`` seeds from ``first_seed`` on that succeed. Yields each seed when it is done.

    ``done``: seed -> success of an earlier run; these seeds count and are not tried again, and the result is the same.
    Raises PositronicError if the expert fails more often than it succeeds. Leaving early ends the processes and removes
    unfinished recordings.
    """
    known = done or {}
    successes = sum(known.values())
    failures = len(known) - successes
    missing = num_episodes - successes
    if missing <= 0:
        return
    seeds = (seed for seed in itertools.count(first_seed) if seed not in known)
    with WorkerPool(worker_count(num_workers, missing), demonstrator, config, root, lesson, first_seed) as pool:
        for seed in itertools.islice(seeds, missing):
            pool.submit(seed)
        for demonstration in pool.results():
            successes += demonstration.success
            failures += not demonstration.success
            if failures > max(MAX_FAILURES, successes):
                raise PositronicError(
                    f"The expert failed on {failures} of {failures + successes} seeds from {first_seed} on: this scene"
                    " is too hard for it. Lower noise=, or take hardware=sim as it is shipped."
                )
            if not demonstration.success:  # as many seeds are under way as successes are missing, never more
                pool.submit(next(seeds))
            yield demonstration
