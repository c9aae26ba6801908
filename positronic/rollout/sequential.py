"""Two policies that are compared while they play: a test and an interval that hold at every look, however often one
looks and whenever one stops.

Of the seeds where one policy succeeded and the other did not, the second one's share is what they are told apart by. A
gambler who thinks that it is not one half bets on each seed, at odds that are fair if it is. What the gambler owns,
beginning with 1, grows beyond 1 / 0.05 with a chance of at most 5 % if the policies are equally good: J. Ville, Étude
critique de la notion de collectif, 1939. The gambler here spreads the beginning over all stakes alike, so that no
difference need be guessed before: H. Robbins, Annals of Mathematical Statistics 41(5), 1970, pp. 1397-1409. The same
bets against any other difference give the interval: I. Waudby-Smith and A. Ramdas, Journal of the Royal Statistical
Society B 86(1), 2024, pp. 1-27.

Seeds are looked at in their order, not in the order in which they end: successes end sooner than failures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from positronic.rollout.pairs import LEVEL, Pairs, holm

STAKES = (np.arange(1024) + 0.5) / 1024  # of the range in which no bet loses more than there is
HALVINGS = 40  # of the range in which an end of the interval is sought


class SequentialPairs(Pairs):
    """Pairs of an evaluation that may have been stopped, at any seed, because of what they said."""

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference: what all intervals so far have in common, since they hold at once. If they
        have nothing in common, the present one."""
        return self._common or interval_at_any_time(len(self.second_alone), len(self.first_alone), self.n)

    @cached_property
    def p_value(self) -> float:
        """Of the sequential test: the least that it has been so far; the present one, if the intervals have nothing in
        common."""
        if self._common is None:
            return min(1.0, math.exp(-log_wealth(len(self.first_alone), len(self.second_alone))))
        return p_value_at_any_time(self._outcomes)

    @cached_property
    def _common(self) -> tuple[float, float] | None:
        return common_interval(self._outcomes)

    @property
    def _outcomes(self) -> list[tuple[bool, bool]]:
        return [(self.first[seed], self.second[seed]) for seed in self.seeds]


def log_wealth(first: int, second: int) -> float:
    """Logarithm of what the gambler owns after seeds of which ``first`` and ``second`` told the policies apart."""
    n = first + second
    return n * math.log(2) + math.lgamma(first + 1) + math.lgamma(second + 1) - math.lgamma(n + 2)


def p_value_at_any_time(outcomes: Sequence[tuple[bool, bool]]) -> float:
    """``outcomes``: whether the first and the second succeeded, seed by seed."""
    counts, most = [0, 0], 0.0
    for first, second in outcomes:
        if first != second:
            counts[second] += 1
            most = max(most, log_wealth(*counts))
    return math.exp(-most)


def interval_at_any_time(second: int, first: int, n: int) -> tuple[float, float]:
    """Differences of rates (second - first) / ``n`` against which the gambler has not won, both ends -1..1.

    ``second`` and ``first``: seeds at which that one alone succeeded.
    """
    seen = (second - first) / n if n else 0.0
    ends = []
    for wrong in (-1.0, 1.0):
        right = seen
        if not _is_excluded(wrong, second, first, n):
            ends.append(wrong)
            continue
        for _ in range(HALVINGS):
            middle = (wrong + right) / 2
            if _is_excluded(middle, second, first, n):
                wrong = middle
            else:
                right = middle
        ends.append(wrong)
    return ends[0], ends[1]


def common_interval(outcomes: Sequence[tuple[bool, bool]]) -> tuple[float, float] | None:
    """What the intervals after each of ``outcomes`` have in common, both ends -1..1; None for nothing."""
    counts, low, high = [0, 0], -1.0, 1.0
    for n, (first, second) in enumerate(outcomes, start=1):
        if first != second:
            counts[second] += 1
        if any(_is_excluded(end, counts[1], counts[0], n) for end in (low, high)):
            present = interval_at_any_time(counts[1], counts[0], n)
            low, high = max(low, present[0]), min(high, present[1])
        if low > high:
            return None
    return low, high


def seeds_until_decided(rates: Sequence[Mapping[int, bool]], seeds: Sequence[int]) -> int | None:
    """After how many of ``seeds``, in their order, it is clear how each policy stands to the first one; None if it is
    not. ``rates``: of each policy, seed -> whether it succeeded; a seed that is missing in one does not count.

    With several comparisons the chance of even one false finding is 5 % (Holm).
    """
    counts = [[0, 0] for _ in rates[1:]]
    most = [0.0] * len(counts)
    for looked, seed in enumerate(seeds, start=1):
        if not all(seed in each for each in rates):
            continue
        for other, (each, count) in enumerate(zip(rates[1:], counts, strict=True)):
            if each[seed] != rates[0][seed]:
                count[each[seed]] += 1
                most[other] = max(most[other], log_wealth(*count))
        if max(holm([math.exp(-each) for each in most])) < LEVEL:
            return looked
    return None


def _is_excluded(difference: float, second: int, first: int, n: int) -> bool:
    """Whether the gambler who bets against ``difference`` owns 1 / LEVEL."""
    low, high = -1 / max(1 - difference, 1e-12), 1 / max(1 + difference, 1e-12)
    stakes = low + (high - low) * STAKES
    equal = n - second - first
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = [(second, 1 - difference), (first, -1 - difference), (equal, -difference)]
        logs = sum(count * np.log(np.maximum(1 + stakes * gain, 0)) for count, gain in gains if count)
    most = np.max(logs) if n else 0.0
    if not np.isfinite(most):
        return most > 0
    return bool(most + math.log(np.mean(np.exp(logs - most))) >= math.log(1 / LEVEL)) if n else False
