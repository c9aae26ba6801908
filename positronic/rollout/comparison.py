"""Several evaluations held against the first of them, seed by seed, from the reports that they have written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from positronic.conventions import require_equal
from positronic.errors import PositronicError
from positronic.rollout.campaign import REPORT_FILE
from positronic.rollout.config import DECIDED, DriverConfig
from positronic.rollout.continuation import STOP_WHEN, ever_to_end_when_decided
from positronic.rollout.pairs import FEWEST, LEVEL, MeanDifference, Pairs, holm, mean_difference, seeds_to_decide
from positronic.rollout.report import FORMAT, policy_name
from positronic.rollout.results import UNJUDGED, percentiles, wilson_interval
from positronic.rollout.sequential import SequentialPairs
from positronic.storage.place import Place
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Group

COMPARISON_FORMAT = 1
SAME_FOR_ALL = (
    *("simulation_time", "stop_on_success", "simulate_latency", "latency_sec", "on_stale", "on_unsafe_chunk", "task"),
    *(each.name for each in fields(DriverConfig) if each.name.startswith("max_")),
)
"""Values of the driver without which success means something else. How chunks are played is not among them: whether it
is better to ask ahead can be compared."""


@dataclass(frozen=True)
class Evaluation:
    """What one ``stage=infer`` has reported. ``name``: what it is called here. ``report``: its ``report.json``.
    ``was_to_end_when_decided``: in any of its runs, says its ``evaluation.json``."""

    name: str
    place: Place
    report: Mapping[str, Any]
    was_to_end_when_decided: bool = False

    @cached_property
    def outcomes(self) -> dict[int, bool]:
        """Seed -> whether it succeeded, for the episodes that count."""
        episodes = self.report["episodes"]
        return {each["seed"]: each["success"] for each in episodes if each["outcome"] not in UNJUDGED}

    @cached_property
    def episodes(self) -> dict[int, Mapping[str, Any]]:
        """Seed -> the report of its episode."""
        return {each["seed"]: each for each in self.report["episodes"]}

    @property
    def policy(self) -> str:
        """What the policy says that it is."""
        return policy_name(self.report["policy"])

    @property
    def task(self) -> dict[str, object]:
        """What was to be done, by which robot, under which conditions."""
        config, driver = self.report["config"], self.report["config"].get("driver", {})
        told = {f"driver.{name}": driver.get(name, getattr(DriverConfig, name)) for name in SAME_FOR_ALL}
        robot = _flat(config.get("hardware", {}), "hardware.")
        return {"robot": self.report["robot"], "task": self.report["task"], **told, **robot}


@dataclass(frozen=True)
class Against:
    """An evaluation beside the first one. ``p_value``: McNemar's, larger where there are several comparisons (Holm)."""

    evaluation: Evaluation
    pairs: Pairs
    p_value: float

    @property
    def is_decided(self) -> bool:
        """Whether chance is an unlikely explanation of the difference, and the interval says which one is better."""
        return self.p_value < LEVEL and self.pairs.better != 0


@dataclass(frozen=True)
class Comparison:
    """Evaluations on the ``seeds`` that all of them have finished. ``left_out``: seeds that some have not."""

    evaluations: Sequence[Evaluation]
    seeds: Sequence[int]
    left_out: int

    @property
    def first(self) -> Evaluation:
        """Which the others are compared with."""
        return self.evaluations[0]

    @cached_property
    def others(self) -> list[Against]:
        """The others, each beside the first."""
        kind = SequentialPairs if self.is_sequential else Pairs
        pairs = [kind(self._outcomes(self.first), self._outcomes(each)) for each in self.evaluations[1:]]
        p_values = holm([each.p_value for each in pairs])
        return [Against(*each) for each in zip(self.evaluations[1:], pairs, p_values, strict=True)]

    @property
    def is_sequential(self) -> bool:
        """Whether one of them may have been stopped because of what it said: then test and interval allow for that."""
        return any(
            each.was_to_end_when_decided or each.report["config"].get("driver", {}).get(STOP_WHEN) == DECIDED
            for each in self.evaluations
        )

    @property
    def differing(self) -> list[int]:
        """Seeds at which not all did the same, increasing."""
        return [seed for seed in self.seeds if len({each.outcomes[seed] for each in self.evaluations}) > 1]

    def successes(self, evaluation: Evaluation) -> int:
        return sum(self._outcomes(evaluation).values())

    def interval(self, evaluation: Evaluation) -> tuple[float, float]:
        """Wilson's 95 % interval of its success rate."""
        return wilson_interval(self.successes(evaluation), len(self.seeds))

    def success_sec(self, evaluation: Evaluation) -> dict[str, float]:
        """Percentiles of the time to success over ``seeds``; empty without any."""
        times = [evaluation.episodes[seed]["success_sec"] for seed in self.seeds]
        return percentiles([each for each in times if each is not None])

    def later(self, other: Against) -> MeanDifference | None:
        """By how many seconds later than the first the other succeeds, at the seeds where both do; None for fewer than
        FEWEST, and where the number of seeds followed from what they said."""
        return self._by_how_much(other, "success_sec")

    def smoother(self, other: Against) -> MeanDifference | None:
        """By how much the other's log dimensionless jerk is larger than the first's, at the seeds where both succeed:
        one that fails moves for longer. None as for ``later``."""
        return self._by_how_much(other, "smoothness")

    def smoothness(self, evaluation: Evaluation) -> float | None:
        """Its mean log dimensionless jerk at the seeds where all succeed; None without any."""
        everywhere = [seed for seed in self.seeds if all(each.outcomes[seed] for each in self.evaluations)]
        values = [evaluation.episodes[seed].get("smoothness") for seed in everywhere]
        known = [each for each in values if each is not None]
        return round(fmean(known), 6) if known else None

    def _by_how_much(self, other: Against, measure: str) -> MeanDifference | None:
        """The mean difference of what the reports of episodes say, where both succeed and both say it."""
        episodes = [(self.first.episodes[seed], other.evaluation.episodes[seed]) for seed in self.seeds]
        pairs = [(one.get(measure), two.get(measure)) for one, two in episodes if one["success"] and two["success"]]
        differences = [two - one for one, two in pairs if one is not None and two is not None]
        if self.is_sequential or len(differences) < FEWEST:
            return None
        return mean_difference(differences)

    def __rich__(self) -> Group:
        from positronic.rollout.comparison_table import comparison_table

        return comparison_table(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def _outcomes(self, evaluation: Evaluation) -> dict[int, bool]:
        return {seed: evaluation.outcomes[seed] for seed in self.seeds}


def compare(places: Sequence[Place]) -> Comparison:
    """The evaluations in these folders, at least two; the others are compared with the first.

    Raises PositronicError for a folder without a report, and one of a replay; ConventionError, with both sides, when
    robot, task or conditions differ; PositronicError when no seed was played by all.
    """
    evaluations = [_read(name, place) for name, place in zip(_names(places), places, strict=True)]
    first = evaluations[0]
    for each in evaluations[1:]:
        hint = "Run both with the same hardware= and driver= values: only then does one success mean the other."
        require_equal(str(first.place), first.task, str(each.place), each.task, hint)
    played = [set(each.outcomes) for each in evaluations]
    seeds = sorted(set.intersection(*played))
    if not seeds:
        spans = "; ".join(f"{each.place} played {_span(each.outcomes)}" for each in evaluations)
        raise PositronicError(f"No seed was played by all: {spans}. Run stage=infer with the same seed= for each.")
    known: set[int] = set().union(*(each.episodes for each in evaluations))
    return Comparison(evaluations, seeds, len(known) - len(seeds))


def sentence(comparison: Comparison, other: Against) -> str:
    """``b 96/100, a 88/100: b is better by 8 points (95 % interval 2 to 14, p = 0.02)``."""
    first, second, n = comparison.first, other.evaluation, len(comparison.seeds)
    counts = ", ".join(f"{each.name} {comparison.successes(each)}/{n}" for each in (second, first))
    low, high = (100 * end for end in other.pairs.interval)
    points = 100 * other.pairs.difference
    several = f" for {len(comparison.others)} comparisons" if len(comparison.others) > 1 else ""
    looked = ", sequential" if comparison.is_sequential else ""
    sure = f"p = {other.p_value:.2g}{several}{looked}"
    if other.is_decided:
        sign = other.pairs.better
        better, low, high = (second, low, high) if sign > 0 else (first, -high, -low)
        interval = f"95 % interval {low:.3g} to {high:.3g}"
        if sign * points > 0:
            return f"{counts}: {better.name} is better by {sign * points:.3g} points ({interval}, {sure})"
        return f"{counts}: {better.name} is better ({interval} points, {sure}), though later seeds speak for the other"
    told = f"no difference is shown ({points:+.3g} points, 95 % interval {low:+.3g} to {high:+.3g}, {sure})"
    return f"{counts}: {told}"


def advice(comparison: Comparison) -> str | None:
    """How many seeds it would take where nothing was decided."""
    if comparison.is_sequential:
        undecided = not all(each.is_decided for each in comparison.others)
        return "More seeds may be added: a larger driver.num_episodes, and resume=true" if undecided else None
    open_ones = [each.pairs for each in comparison.others if not each.is_decided]
    asked = [seeds_to_decide(each, len(comparison.others)) for each in open_ones]
    needed = [each for each in asked if each is not None]
    if not needed or max(needed) <= len(comparison.seeds):
        return None
    return (
        f"If the difference is as it looks, about {max(needed)} seeds would show it: driver.num_episodes={max(needed)}"
    )


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """``comparison.json``: rates and differences 0..1, differences as the other's rate minus the first's."""
    evaluations = [
        {
            "name": each.name,
            "path": str(each.place),
            "policy": dict(each.report["policy"]),
            "successes": comparison.successes(each),
            "success_rate": comparison.successes(each) / len(comparison.seeds),
            "interval_95": list(comparison.interval(each)),
            "success_sec": comparison.success_sec(each),
            "smoothness": comparison.smoothness(each),
            "inference_latency_ms_of_all_episodes": each.report["inference_latency_ms"],
        }
        for each in comparison.evaluations
    ]
    others = [
        {
            "name": each.evaluation.name,
            "summary": sentence(comparison, each),
            "difference": each.pairs.difference,
            "interval_95": list(each.pairs.interval),
            "p": each.pairs.p_value,
            "p_holm": each.p_value,
            "decided": each.is_decided,
            "success_sec_difference": asdict(later) if (later := comparison.later(each)) else None,
            "smoothness_difference": asdict(smoother) if (smoother := comparison.smoother(each)) else None,
            "only_first": each.pairs.first_alone,
            "only_this": each.pairs.second_alone,
        }
        for each in comparison.others
    ]
    return {
        "format": COMPARISON_FORMAT,
        "first": comparison.first.name,
        "test": "sequential" if comparison.is_sequential else "mcnemar",
        "seeds": list(comparison.seeds),
        "seeds_left_out": comparison.left_out,
        "evaluations": evaluations,
        "against_first": others,
    }


def _read(name: str, place: Place) -> Evaluation:
    content = place.read_bytes(REPORT_FILE)
    if content is None:
        raise PositronicError(
            f"{place} holds no {REPORT_FILE}. Expected a folder of rollouts that stage=infer has written, as "
            "data/rollouts/<experiment>."
        )
    try:
        report = json.loads(content)
        evaluation = Evaluation(name, place, report, ever_to_end_when_decided(place))
        known = report["format"] == FORMAT and evaluation.task and evaluation.policy is not None
        outcomes = evaluation.outcomes
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PositronicError(f"{place}/{REPORT_FILE} is damaged: {error!r}. Run that evaluation again.") from None
    if not known:
        raise PositronicError(f"{place}/{REPORT_FILE}: expected format {FORMAT}, found {report['format']}.")
    if report["successes"] is None:
        raise PositronicError(f"{place} is a replay: its episodes neither succeed nor fail, so nothing is compared.")
    if not outcomes:
        raise PositronicError(f"{place}: no episode was finished there. Run that evaluation again.")
    return evaluation


def _names(places: Sequence[Place]) -> list[str]:
    """The last parts of the paths, as many as tell all apart."""
    parts = [str(place).rstrip("/").split("/") for place in places]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise PositronicError(f"Two of the folders are the same: {', '.join(map(str, places))}. Type each once.")


def _flat(values: Mapping[str, Any], start: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        found |= _flat(value, f"{start}{name}.") if isinstance(value, Mapping) else {f"{start}{name}": value}
    return found


def _span(seeds: Mapping[int, bool]) -> str:
    return f"{min(seeds)} to {max(seeds)}"
