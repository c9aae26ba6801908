"""Two policies on the same seeds: what their difference is, and how sure that is.

Each seed is a scene that both have played, so that the scene's own difficulty says nothing: only the seeds where one
succeeded and the other did not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from positronic.rollout.results import wilson_interval

LEVEL = 0.05
FEWEST = 8  # pairs that the bootstrap makes an interval of
RESAMPLES = 4000
POWER_80 = 0.841621  # standard normal quantile: how often a difference would be found


@dataclass(frozen=True)
class Pairs:
    """``first`` and ``second``: seed -> whether it succeeded, for the seeds that both have played."""

    first: Mapping[int, bool]
    second: Mapping[int, bool]

    @property
    def seeds(self) -> list[int]:
        """Those of both, increasing."""
        return sorted(self.first)

    @property
    def n(self) -> int:
        return len(self.first)

    @cached_property
    def first_alone(self) -> list[int]:
        """Seeds that only the first succeeded at."""
        return [seed for seed in self.seeds if self.first[seed] and not self.second[seed]]

    @cached_property
    def second_alone(self) -> list[int]:
        """Seeds that only the second succeeded at."""
        return [seed for seed in self.seeds if self.second[seed] and not self.first[seed]]

    @property
    def both(self) -> int:
        return sum(self.first[seed] and self.second[seed] for seed in self.seeds)

    @property
    def difference(self) -> float:
        """Rate of the second minus rate of the first, -1..1."""
        return (len(self.second_alone) - len(self.first_alone)) / self.n

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference. See ``paired_interval``."""
        return paired_interval(self.both, len(self.second_alone), len(self.first_alone), self.n)

    @cached_property
    def p_value(self) -> float:
        """Of McNemar's exact test. See ``mcnemar``."""
        return mcnemar(len(self.first_alone), len(self.second_alone))

    @property
    def better(self) -> int:
        """1 if the second's rate is the larger one as far as the interval says, -1 if the first's; 0 if it leaves both
        open."""
        low, high = self.interval
        return (low > 0) - (high < 0)


def paired_interval(both: int, second: int, first: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two rates over the same ``n`` seeds, both ends -1..1.

    ``both``: seeds that both succeeded at; ``second`` and ``first``: that one alone did. The difference is (second -
    first) / n. R. G. Newcombe, Statistics in Medicine 17(22), 1998, pp. 2635-2650, method 10: Wilson's intervals of the
    two rates, put together with their correlation. It keeps its coverage where rates are near 0 and 1, and has a width
    even if the two never differ.
    """
    neither = n - both - second - first
    a, b = (both + second) / n, (both + first) / n  # rates of the second and of the first
    (a_low, a_high), (b_low, b_high) = wilson_interval(both + second, n), wilson_interval(both + first, n)
    margins = (both + second) * (first + neither) * (both + first) * (second + neither)
    product = both * neither - second * first
    product = max(product - n / 2, 0.0) if product > 0 else product
    correlation = product / math.sqrt(margins) if margins else 0.0
    below = _together(a - a_low, b_high - b, correlation)
    above = _together(a_high - a, b - b_low, correlation)
    return max(-1.0, a - b - below), min(1.0, a - b + above)


@dataclass(frozen=True)
class MeanDifference:
    """The mean of ``count`` differences, and its 95 % interval from ``low`` to ``high``."""

    mean: float
    low: float
    high: float
    count: int


def mean_difference(differences: Sequence[float]) -> MeanDifference:
    """Of paired numbers, at least FEWEST. The interval is that of the bootstrap's percentiles, drawn with a fixed seed:
    B. Efron, Annals of Statistics 7(1), 1979, pp. 1-26."""
    values = np.asarray(differences, float)
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return MeanDifference(*(round(float(each), 6) for each in (values.mean(), low, high)), len(values))


def mcnemar(first: int, second: int) -> float:
    """Two-sided p-value of McNemar's exact test: how often chance alone would divide the seeds that tell two policies
    apart at least as unevenly as ``first`` and ``second``.

    Q. McNemar, Psychometrika 12(2), 1947, pp. 153-157, with the binomial distribution in place of its approximation.
    """
    n, least = first + second, min(first, second)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, each so large that 5 % stays the chance of even one false finding.

    S. Holm, Scandinavian Journal of Statistics 6(2), 1979, pp. 65-70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def seeds_to_decide(pairs: Pairs, comparisons: int = 1) -> int | None:
    """How many seeds would be enough to find a difference such as the one that was seen, 4 times of 5; None if none was
    seen. ``comparisons``: how many are made, for the strictest of Holm's levels.

    R. J. Connor, Biometrics 43(1), 1987, pp. 207-211.
    """
    apart, difference = (len(pairs.first_alone) + len(pairs.second_alone)) / pairs.n, pairs.difference
    if not difference:
        return None
    quantile = NormalDist().inv_cdf(1 - LEVEL / (2 * comparisons))
    root = quantile * math.sqrt(apart) + POWER_80 * math.sqrt(apart - difference**2)
    return math.ceil((root / difference) ** 2)


def _together(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))
