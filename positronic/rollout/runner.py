"""One episode: observe, ask the policy, play its chunk by the timestamps, record, score.

Time is the robot's own, so an episode takes as long as computing takes, and the same seed gives the same episode.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import takewhile
from typing import Any

from positronic import keys
from positronic.commands import ActionStep
from positronic.errors import PositronicError
from positronic.hardware.robot import Judged, Robot
from positronic.raw.timeline import NS_PER_SEC
from positronic.raw.writer import EpisodeWriter
from positronic.rollout.answers import Questioner
from positronic.rollout.check import GO_ON_WITH, UnsafeChunk, joints_with_limits
from positronic.rollout.config import PLAY_OUT, STOP, DriverConfig
from positronic.rollout.freshness import FreshnessCheck, StaleSignal, measured_ns
from positronic.rollout.playback import Answer, Event, stamps_of, to_ns
from positronic.rollout.policies import Policy
from positronic.rollout.recorder import EpisodeRecorder, flat, robot_statics
from positronic.rollout.results import (
    ABORTED,
    REPLAYED,
    SAID_BY_STATICS,
    STALE,
    SUCCESS,
    TIMEOUT,
    UNSAFE,
    EpisodeResult,
    Series,
)
from positronic.rollout.safety import ChunkCheck
from positronic.rollout.seams import SeamCheck
from positronic.rollout.smoothness import ToolPaths
from positronic.rollout.strategies import strategy_of


def ignore(time_ns: int) -> None:
    """Nobody watches."""


@dataclass
class Tally:
    """What an episode has come to so far. ``success_ns``: when the success had lasted long enough. ``clamped_steps``:
    how many steps were changed to keep to the driver's limits. ``idle_frames``: control steps at which nothing was due,
    because the policy's answer was not there yet."""

    latencies_ms: list[float] = field(default_factory=list)
    metrics: dict[str, Series] = field(default_factory=dict)
    success_ns: int | None = None
    clamped_steps: int = 0
    idle_frames: int = 0
    tool_paths: ToolPaths = field(default_factory=ToolPaths)
    started: bool = False

    def note(self, time_ns: int, metrics: Mapping[str, float]) -> None:
        """Keep the scores of a moment."""
        self.started = True
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append((time_ns / NS_PER_SEC, float(value)))


class Loop:
    """A robot, a policy and a recorder, brought together for one episode.

    ``seed``: of the policy's random numbers, if it draws some. ``watch`` is called with the time in ns each time the
    loop looks at the robot; it may raise to stop the episode.
    """

    def __init__(
        self,
        robot: Robot,
        policy: Policy,
        recorder: EpisodeRecorder,
        driver: DriverConfig,
        task: str,
        seed: int,
        watch: Callable[[int], None] = ignore,
    ) -> None:
        self._robot, self._policy, self._recorder = robot, policy, recorder
        self._driver, self._task, self._seed, self._watch = driver, task, seed, watch
        self._end_ns = end_ns(robot, driver)
        self._step_sec = 1 / float(policy.meta.get(keys.META_ACTION_FPS) or driver.action_fps)
        overlaps = driver.playback != PLAY_OUT
        self._questioner = Questioner(policy, driver.simulate_latency, driver.latency_sec, overlaps)
        self._asked = 0
        self.tally = Tally(self._questioner.latencies_ms)
        self._check = ChunkCheck(robot.contract, driver, self._step_sec)
        self._seams = SeamCheck(robot.contract, driver, self._step_sec) if robot.contract.moves else None
        self._has_seams = overlaps
        self._clamped: dict[int, ActionStep] = {}  # by identity, those that are counted
        self._judge = robot.judge() if isinstance(robot, Judged) else None
        known = robot.contract.embodiment
        self._freshness = FreshnessCheck(driver.max_staleness_sec, known.cameras if known else None)
        self._seen: tuple[int, dict[str, Any], dict[str, int]] = (-1, {}, {})

    def run(self) -> None:
        """Play until success or until time is up. Raises what the policy and the robot raise."""
        interrupted = True  # by Ctrl-C, which does not wait for an answer that may never come
        try:
            self._play()
            interrupted = False
        except Exception:
            interrupted = False
            raise
        finally:
            self._questioner.close(wait=not interrupted)

    def _play(self) -> None:
        for planned in self._events():
            self._robot.advance(planned.time_ns)
            event = self._admitted_now(planned)
            if event.step:
                for arm, action in event.step.arms.items():
                    self._robot.command(action.command, action.target_grip, arm)
            self.tally.idle_frames += event.idle
            self._look(event)
            if self.tally.success_ns is not None and self._driver.stop_on_success:
                return

    def _admitted_now(self, event: Event) -> Event:
        """The event with its step as it may be played after those before it, where chunks overlap or are of one step
        each: nobody has looked at these together."""
        if event.step is None or self._seams is None or not self._has_seams:
            return event
        step = self._seams.admit(event.step, event.time_ns / NS_PER_SEC, self._observe()[0])
        self.tally.clamped_steps += step is not event.step and id(event.step) not in self._clamped
        return replace(event, step=step)

    def _events(self) -> Iterator[Event]:
        """Chunk after chunk. The last one is cut when time is up, and one last look follows."""
        now = Fraction(self._robot.time_ns)  # exact: 1/15 s is no whole number of ns, and rounding would add up
        play = strategy_of(self._driver, self._step_sec, joints_with_limits(self._robot.contract))
        yield from takewhile(lambda event: event.time_ns < self._end_ns, play(now, self._end_ns, self._ask))
        yield Event(self._end_ns)

    def _ask(self, now: Fraction) -> Answer:
        self._robot.advance(math.floor(now))
        now_ns = self._robot.time_ns
        observed, stamps_ns = self._observe()
        about = {keys.TASK: self._task, keys.OBS_TIME_NS: now_ns, keys.WALL_TIME_NS: time.time_ns()}
        about |= {keys.MEASURED_TIMES_NS: stamps_ns, keys.NOISE_SEED: [self._seed, self._asked]}
        self._asked += 1
        observation = observed | about
        coming = self._questioner.ask(observation)
        return Answer(now, now + coming.latency_ns, lambda: self._admit(coming.chunk(), observation))

    def _admit(self, chunk: Sequence[ActionStep], observation: Mapping[str, Any]) -> Sequence[ActionStep]:
        """The chunk as it may be played. Raises UnsafeChunk; the moment is recorded first if only the episode ends."""
        stamps_of(chunk)
        try:
            admitted = self._check.admit(chunk, observation)
        except UnsafeChunk as problem:
            if self._driver.on_unsafe_chunk != STOP:
                said = f"{problem} To count such an episode as a failure and go on with the next, type {GO_ON_WITH}."
                raise UnsafeChunk(said) from problem
            if not self.tally.started:
                self._look(Event(self._robot.time_ns))
            raise
        self.tally.clamped_steps += len(admitted.clamped)
        self._clamped |= {id(step): step for step in admitted.clamped}
        self._has_seams = self._driver.playback != PLAY_OUT or len(chunk) == 1
        return admitted.chunk

    def _look(self, event: Event) -> None:
        metrics = self._robot.metrics()
        observed, stamps_ns = self._observe()
        self._recorder.tick(event.time_ns, observed, event.step, metrics, stamps_ns)
        self.tally.note(event.time_ns, metrics)
        self.tally.tool_paths.note(observed, stamps_ns)
        if self._judge is not None:
            self._judge.update(event.time_ns, metrics)
            self.tally.success_ns = self._judge.success_ns
        self._watch(event.time_ns)

    def _observe(self) -> tuple[dict[str, Any], dict[str, int]]:
        """What the robot measures now, and when it was measured. The observation for the policy and the recording is
        measured only once.

        Raises StaleSignal if the driver does not allow its age.
        """
        now_ns = self._robot.time_ns
        if self._seen[0] != now_ns:
            observed = self._robot.observe()
            self._seen = (now_ns, observed, measured_ns(self._robot, observed))
            self._freshness.check(now_ns, *self._seen[1:])
        return self._seen[1:]


def end_ns(robot: Robot, driver: DriverConfig) -> int:
    """When the episode ends at the latest. A replayed recording has its own end (``duration_ns``)."""
    limit_ns = to_ns(driver.simulation_time)
    return min(limit_ns, getattr(robot, "duration_ns", limit_ns))


def run_episode(
    robot: Robot,
    policy: Policy,
    writer: EpisodeWriter,
    seed: int,
    driver: DriverConfig,
    watch: Callable[[int], None] = ignore,
) -> EpisodeResult:
    """One rollout from ``seed``, recorded by ``writer``, which stays open.

    If policy or robot fail after the start, what happened so far is recorded as ``aborted`` with the reason. A failure
    before anything moved is raised (PositronicError, ConventionError). A signal that goes stale and an unsafe chunk
    count as such a failure, unless the driver says that they only end the episode.
    """
    robot.reset(seed)
    policy.reset()
    facts = robot.statics() | robot_statics(robot.contract)  # after the reset, which draws the scene
    facts[keys.TASK] = driver.task or facts.get(keys.TASK, "")
    recorder = EpisodeRecorder(writer)
    loop = Loop(robot, policy, recorder, driver, facts[keys.TASK], seed, watch)
    reason, outcome = None, None
    try:
        loop.run()
    except PositronicError as problem:
        if not loop.tally.started:  # nothing was recorded that could be reported
            raise
        reason, outcome = str(problem), _ended_by(problem, driver)
    outcome = outcome or _outcome(robot, loop.tally)
    result = _result(loop.tally, writer, seed, robot.time_ns, facts[keys.TASK], outcome, reason)
    recorder.statics(facts | policy_statics(policy.meta) | outcome_statics(result))
    writer.set_meta(keys.EVAL_LATENCIES_MS, list(result.latencies_ms))
    return result


def _ended_by(problem: PositronicError, driver: DriverConfig) -> str:
    """Outcome of an episode that came to no end of its own."""
    if isinstance(problem, StaleSignal) and driver.on_stale == STOP:
        return STALE
    if isinstance(problem, UnsafeChunk) and driver.on_unsafe_chunk == STOP:
        return UNSAFE
    return ABORTED


def _outcome(robot: Robot, tally: Tally) -> str:
    """Outcome of an episode that came to its end."""
    if not isinstance(robot, Judged):
        return REPLAYED
    return TIMEOUT if tally.success_ns is None else SUCCESS


def _result(
    tally: Tally, writer: EpisodeWriter, seed: int, duration_ns: int, task: str, outcome: str, reason: str | None
) -> EpisodeResult:
    return EpisodeResult(
        id=writer.id,
        seed=seed,
        outcome=outcome,
        path=str(writer.path),
        task=task,
        duration_sec=round(duration_ns / NS_PER_SEC, 6),
        success_sec=None if tally.success_ns is None else round(tally.success_ns / NS_PER_SEC, 6),
        reason=reason,
        latencies_ms=tally.latencies_ms,
        metrics=tally.metrics,
        clamped_steps=tally.clamped_steps,
        idle_frames=tally.idle_frames,
        smoothness=None if outcome == REPLAYED else tally.tool_paths.smoothness(),
    )


def outcome_statics(result: EpisodeResult) -> dict[str, Any]:
    """What a recording says about how it ended."""
    known = {key: getattr(result, name) for name, key in SAID_BY_STATICS.items()}
    known |= {keys.EVAL_SUCCESS: result.success, keys.EVAL_METRICS: list(result.metrics)}
    return {key: value for key, value in known.items() if value is not None}


def policy_statics(meta: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's meta as statics ``inference.policy.*``. Names of nested maps are joined by dots; None values are left
    out."""
    said = {keys.POLICY_PREFIX + name: value for name, value in flat(meta) if value is not None}
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in said.items()}
