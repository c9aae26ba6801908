"""What is said about many episodes: one line for people, report.json for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from positronic import keys
from positronic.hardware.robot import Scores
from positronic.rollout.results import (
    REPLAYED,
    UNJUDGED,
    EpisodeResult,
    InstructionRate,
    instruction_rates,
    percentiles,
    values_of,
    wilson_interval,
)
from positronic.utils.files import replace_text
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Group

FORMAT = 1
ERRORS = {  # metric -> what it is called, unit, factor to that unit
    keys.REPLAY_POSITION_ERROR: ("position", "mm", 1e3),
    keys.REPLAY_ROTATION_ERROR: ("rotation", "°", 180 / np.pi),
    keys.REPLAY_JOINT_ERROR: ("joints", "°", 180 / np.pi),
    keys.REPLAY_GRIP_ERROR: ("gripper", "%", 1e2),
}


class ReplayError(NamedTuple):
    """How an error is shown: its numbers times ``factor`` are in ``unit``."""

    what: str
    unit: str
    factor: float


def replay_error(name: str) -> ReplayError:
    """How the metric ``name`` is shown; with several arms it says of which."""
    plain, arm = keys.split_arm(name)
    what, unit, factor = ERRORS[plain]
    return ReplayError(f"{arm} {what}" if arm else what, unit, factor)


def error_names(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are replay errors, each once, by kind and arm."""
    kinds, unique = list(ERRORS), dict.fromkeys(names)
    found = [(kinds.index(keys.split_arm(name)[0]), name) for name in unique if keys.split_arm(name)[0] in ERRORS]
    return [name for _, name in sorted(found)]


@dataclass(frozen=True)
class Rollouts:
    """Everything that a report says. ``results`` in order of id; ``stopped``: why there are fewer than ``planned``.
    ``scores``: what the robot's task calls a success. ``earlier``: how many were played before this run, which took
    ``wall_sec``."""

    root: Path
    results: Sequence[EpisodeResult]
    planned: int
    robot: str
    task: str
    policy: Mapping[str, Any]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    wall_sec: float
    earlier: int = 0
    stopped: str | None = None
    scores: Scores | None = None
    videos: Mapping[int, str] = field(default_factory=dict)  # episode id -> path within root

    def __repr__(self) -> str:
        return f"Rollouts({str(self.root)!r}: {headline(self)})"

    def __rich__(self) -> Group:
        """The numbers and the first episodes as tables."""
        from positronic.rollout.table import rollouts_table

        return rollouts_table(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    @property
    def judged(self) -> list[EpisodeResult]:
        """The episodes that count. One that was aborted or went stale says nothing about the policy."""
        return [result for result in self.results if result.outcome not in UNJUDGED]

    @property
    def is_replay(self) -> bool:
        return any(result.outcome == REPLAYED for result in self.judged)

    @property
    def successes(self) -> int:
        return sum(result.success for result in self.judged)

    def relative(self, path: str) -> str:
        """A recording's path within ``root``, so that the report may be moved with it."""
        return Path(path).resolve().relative_to(self.root.resolve()).as_posix()


def policy_name(meta: Mapping[str, Any]) -> str:
    """What a policy says that it is: vendor, experiment and checkpoint, each once."""
    checkpoint, experiment = meta.get(keys.META_CHECKPOINT_ID), meta.get(keys.META_EXPERIMENT)
    in_it = experiment is not None and str(checkpoint).startswith(f"{experiment}/")
    known = [meta.get(keys.META_TYPE), None if in_it else experiment, checkpoint]
    return " ".join(str(value) for value in dict.fromkeys(known) if value is not None)


def done_word(scores: Scores | None) -> str:
    """What a success is called."""
    return scores.done if scores else "succeeded"


def headline(rollouts: Rollouts) -> str:
    """``stacked 98/100 (95 % interval 93-99 %)``, or how far a policy was from the recordings."""
    n = len(rollouts.judged)
    if not n:
        return "no episode was finished"
    if rollouts.is_replay:
        return f"replayed {n} {'recording' if n == 1 else 'recordings'}, {_error_words(rollouts)}"
    return _rate_words(rollouts.scores, rollouts.successes, n)


def by_instruction(rollouts: Rollouts) -> list[InstructionRate]:
    """The success for each instruction. Empty where there is only one, and of a replay, which succeeds at nothing."""
    rates = [] if rollouts.is_replay else instruction_rates(rollouts.judged)
    return rates if len(rates) > 1 else []


def instruction_lines(rollouts: Rollouts) -> list[str]:
    """A line for each of several instructions: ``stacked 41/50 (95 % interval 69-90 %): Put the red cube on ...``."""
    return [
        f"{_rate_words(rollouts.scores, each.successes, each.n)}: {each.instruction}"
        for each in by_instruction(rollouts)
    ]


def error_summary(rollouts: Rollouts) -> dict[str, dict[str, float]]:
    """Replay errors over all episodes, in SI units: metric -> mean, p95, max."""
    pooled: dict[str, list[float]] = {}
    for result in rollouts.judged:
        for name in error_names(result.metrics):
            pooled.setdefault(name, []).extend(values_of(result.metrics[name]))
    return {
        name: {
            "mean": round(float(np.mean(pooled[name])), 6),
            "p95": round(float(np.percentile(pooled[name], 95)), 6),
            "max": round(max(pooled[name]), 6),
        }
        for name in error_names(pooled)
    }


def report(rollouts: Rollouts) -> dict[str, Any]:
    """The report as JSON. Times in seconds unless the name says otherwise, rates 0..1, paths within ``root``."""
    n = len(rollouts.judged)
    latencies = [value for result in rollouts.results for value in result.latencies_ms]
    times = [result.success_sec for result in rollouts.judged if result.success_sec is not None]
    smoothness = [result.smoothness for result in rollouts.judged if result.smoothness is not None]
    episodes = [result.summary() | {"path": rollouts.relative(result.path)} for result in rollouts.results]
    return {
        "format": FORMAT,
        "summary": headline(rollouts),
        "planned": rollouts.planned,
        "n": n,
        "aborted": len(rollouts.results) - n,
        "stopped": rollouts.stopped,
        "successes": None if rollouts.is_replay else rollouts.successes,
        "success_rate": None if rollouts.is_replay or not n else rollouts.successes / n,
        "interval_95": None if rollouts.is_replay else list(wilson_interval(rollouts.successes, n)),
        "by_instruction": [each.summary() for each in by_instruction(rollouts)],
        "success_sec": percentiles(times),
        "replay_errors": error_summary(rollouts),
        "smoothness": round(float(np.mean(smoothness)), 6) if smoothness else None,
        "inferences": len(latencies),
        "inference_latency_ms": percentiles(latencies),
        "idle_frames": sum(result.idle_frames for result in rollouts.results),
        "clamped_steps": sum(result.clamped_steps for result in rollouts.results),
        "wall_sec": round(rollouts.wall_sec, 3),
        "earlier": rollouts.earlier,
        "robot": rollouts.robot,
        "task": rollouts.task,
        "policy": dict(rollouts.policy),
        "config": dict(rollouts.config),
        "provenance": dict(rollouts.provenance),
        "videos": {str(index): path for index, path in rollouts.videos.items()},
        "episodes": episodes,
    }


def write_json(rollouts: Rollouts, path: Path) -> None:
    """Write the report."""
    replace_text(path, json.dumps(report(rollouts), indent=1, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _rate_words(scores: Scores | None, successes: int, n: int) -> str:
    low, high = wilson_interval(successes, n)
    return f"{done_word(scores)} {successes}/{n} (95 % interval {100 * low:.0f}-{100 * high:.0f} %)"


def _error_words(rollouts: Rollouts) -> str:
    words = []
    for name, error in error_summary(rollouts).items():
        what, unit, factor = replay_error(name)
        words.append(f"{factor * error['mean']:.3g} {unit} ({what})")
    return f"on average off by {', '.join(words)}" if words else "nothing to compare"
