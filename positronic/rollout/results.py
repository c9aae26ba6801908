"""The result of an episode, and of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from positronic import keys

SUCCESS = "success"
TIMEOUT = "timeout"
REPLAYED = "replayed"  # a recording was played to its end; nothing to succeed at
ABORTED = "aborted"
STALE = "stale"  # a signal stopped being true, and driver.on_stale=stop ended the episode
UNSAFE = "unsafe"  # a chunk that the robot could not follow without harm, and driver.on_unsafe_chunk=stop: a failure
UNJUDGED = (ABORTED, STALE)  # they say nothing about the policy

SAID_BY_STATICS = {  # field of an EpisodeResult -> the static of its recording
    "seed": keys.EVAL_SEED,
    "outcome": keys.EVAL_OUTCOME,
    "duration_sec": keys.EVAL_DURATION,
    "success_sec": keys.EVAL_SUCCESS_SEC,
    "reason": keys.EVAL_REASON,
    "idle_frames": keys.EVAL_IDLE_FRAMES,
    "clamped_steps": keys.EVAL_CLAMPED_STEPS,
    "smoothness": keys.EVAL_SMOOTHNESS,
}

Z_95 = 1.959964  # standard normal quantile of a two-sided 95 % interval


Series = list[tuple[float, float]]  # (seconds from the episode's start, value), at least one


def values_of(series: Series) -> list[float]:
    """The values without their times."""
    return [value for _, value in series]


@dataclass(frozen=True)
class EpisodeResult:
    """One recorded rollout.

    Times in seconds from the episode's start; ``success_sec`` is when the success had lasted long enough. ``metrics``:
    the robot's scores over time, by name. ``clamped_steps``: how many steps were changed to keep to the driver's
    limits. ``idle_frames``: control steps at which nothing was due, because the policy's answer was not there yet.
    ``smoothness``: log dimensionless jerk of the measured tool, larger is smoother; None if it stood still or was not
    moved by the policy.
    """

    id: int
    seed: int
    outcome: str
    path: str
    task: str
    duration_sec: float
    success_sec: float | None = None
    reason: str | None = None
    latencies_ms: Sequence[float] = ()
    metrics: Mapping[str, Series] = field(default_factory=dict)
    clamped_steps: int = 0
    idle_frames: int = 0
    smoothness: float | None = None

    @property
    def success(self) -> bool:
        return self.outcome == SUCCESS

    def summary(self) -> dict[str, Any]:
        """What the report says about this episode: everything but the long series."""
        return {
            "id": self.id,
            "seed": self.seed,
            "outcome": self.outcome,
            "success": self.success,
            "success_sec": self.success_sec,
            "duration_sec": self.duration_sec,
            "max": {name: round(max(values_of(series)), 6) for name, series in self.metrics.items()},
            "mean": {name: round(float(np.mean(values_of(series))), 6) for name, series in self.metrics.items()},
            "clamped_steps": self.clamped_steps,
            "idle_frames": self.idle_frames,
            "smoothness": self.smoothness,
            "reason": self.reason,
            "path": self.path,
        }


def instructions(results: Sequence[EpisodeResult]) -> str:
    """What the policy was told, each instruction once."""
    return " / ".join(sorted({result.task for result in results}))


@dataclass(frozen=True)
class InstructionRate:
    """How many of the ``n`` episodes with one instruction succeeded."""

    instruction: str
    successes: int
    n: int

    def summary(self) -> dict[str, Any]:
        """For the report: rates 0..1."""
        return {
            "instruction": self.instruction,
            "n": self.n,
            "successes": self.successes,
            "success_rate": self.successes / self.n,
            "interval_95": list(wilson_interval(self.successes, self.n)),
        }


def instruction_rates(results: Sequence[EpisodeResult]) -> list[InstructionRate]:
    """Of each instruction in ``results``, by its text."""
    told: dict[str, list[bool]] = {}
    for result in results:
        told.setdefault(result.task, []).append(result.success)
    return [InstructionRate(task, sum(succeeded), len(succeeded)) for task, succeeded in sorted(told.items())]


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a success rate, both ends 0..1; (0, 1) when ``n`` is 0.

    Score interval of E. B. Wilson, J. American Statistical Association 22(158), 1927, pp. 209-212. It keeps its
    coverage near 0 and 1, where the normal approximation collapses to a point.
    """
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the maximum; empty without values."""
    if not len(values):
        return {}
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {"p50": round(p50, 3), "p90": round(p90, 3), "p99": round(p99, 3), "max": round(max(values), 3)}
