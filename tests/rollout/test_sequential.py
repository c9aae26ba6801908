"""A comparison that may stop at any seed: what it says is true as often as it claims."""

import numpy as np
import pytest

from positronic.rollout.sequential import (
    STAKES,
    SequentialPairs,
    interval_at_any_time,
    log_wealth,
    p_value_at_any_time,
    seeds_until_decided,
)

LOOKS = 400


def crossed(share, looks):
    """The exact chance that the test has ever decided within ``looks`` seeds that tell the policies apart, of which
    ``share`` are the second's."""
    chances, decided = np.array([1.0]), 0.0  # of how many were the second's, while nothing is decided
    for n in range(1, looks + 1):
        chances = np.append(chances * (1 - share), 0) + np.append(0, chances * share)
        ends = np.array([log_wealth(n - k, k) >= np.log(20) for k in range(n + 1)])
        decided += chances[ends].sum()
        chances[ends] = 0
    return decided


def test_equal_policies_are_told_apart_in_less_than_5_percent():
    """Computed exactly, with a look after each of 400 seeds that went differently."""
    assert 0.01 < crossed(0.5, LOOKS) < 0.05


def test_a_difference_is_found():
    """9 to 1 among the seeds that went differently, within 40 of them."""
    assert crossed(0.9, 40) > 0.97


def test_the_gamblers_sum_is_that_of_all_stakes():
    """Closed form and mean over stakes from losing all on one side to losing all on the other."""
    stakes = 2 * STAKES - 1
    for first, second in [(0, 0), (3, 1), (2, 12)]:
        assert np.mean((1 + stakes) ** second * (1 - stakes) ** first) == pytest.approx(
            np.exp(log_wealth(first, second)), rel=1e-4
        )


@pytest.mark.parametrize("rates", [(0.05, 0.05), (0.3, 0.1), (0.02, 0.4)])
def test_the_interval_holds_the_truth_after_every_seed_at_once(rates):
    """In 95 % of evaluations, each looked at after each of 150 seeds."""
    first, second = rates
    truth = second - first
    drawn = np.random.default_rng(0).choice([-1, 0, 1], size=(400, 150), p=[first, 1 - first - second, second])
    low, high = -1 / (1 - truth), 1 / (1 + truth)
    stakes = low + (high - low) * STAKES[::16]
    wealth = np.cumsum(np.log1p(stakes * (drawn[..., None] - truth)), axis=1)
    largest = np.log(np.mean(np.exp(wealth), axis=2)).max(axis=1)
    assert np.mean(largest >= np.log(20)) <= 0.05


def test_interval_and_decision_agree():
    """0 is left out when the test has just decided, and not one seed before; the other way around it mirrors."""
    assert interval_at_any_time(0, 0, 0) == (-1, 1)
    for second in (7, 8):
        low, high = interval_at_any_time(second, 0, 50)
        assert (low > 0) == (p_value_at_any_time([(False, True)] * second) < 0.05) == (second == 8)
        assert interval_at_any_time(0, second, 50) == pytest.approx((-high, -low))
    assert interval_at_any_time(10, 3, 10_000) == pytest.approx((0.0007, 0.0007), abs=0.003)


def test_what_was_decided_stays_decided():
    """Seeds that are looked at later do not take it back."""
    outcomes = [(False, True)] * 8 + [(True, False)] * 8
    assert p_value_at_any_time(outcomes) == p_value_at_any_time(outcomes[:8]) < 0.05
    pairs = sequential(outcomes)
    assert pairs.p_value == p_value_at_any_time(outcomes)
    early = interval_at_any_time(8, 0, 8)
    assert pairs.better == 1
    assert 0 < pairs.interval[0] == early[0] < pairs.interval[1] < early[1]


def test_a_direction_is_that_of_the_interval():
    """What was decided for the first one is not said of the second when later seeds speak for that; of intervals that
    have nothing in common the last one counts, and its test."""
    turned = sequential([(True, False)] * 9 + [(False, True)] * 13 + [(True, True)] * 20)
    assert turned.difference > 0 > turned.interval[1]
    assert (turned.better, turned.p_value < 0.05) == (-1, True)
    opposed = sequential([(True, False)] * 9 + [(False, True)] * 300)
    assert opposed.interval == interval_at_any_time(300, 9, 309)
    assert (opposed.better, opposed.p_value < 0.05) == (1, True)
    open_again = sequential([(True, False)] * 20 + [(False, True)] * 31)
    assert (open_again.better != 0) == (open_again.p_value < 0.05)


def sequential(outcomes):
    return SequentialPairs(*(dict(enumerate(each)) for each in zip(*outcomes, strict=True)))


def test_it_is_decided_when_every_comparison_is():
    """In the order of seeds; a seed that does not count for one of them counts for none."""
    seeds = list(range(30))
    worse, better = dict.fromkeys(seeds, False), dict.fromkeys(seeds, True)
    assert seeds_until_decided([worse, better], seeds) == 8
    assert seeds_until_decided([worse, worse], seeds) is None
    assert seeds_until_decided([worse, better, worse], seeds) is None
    assert seeds_until_decided([worse, better, better], seeds) == 9
    del better[2]
    assert seeds_until_decided([worse, better], seeds) == 9
