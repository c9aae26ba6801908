"""Numbers of many episodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from positronic.rollout.results import EpisodeResult, instructions, percentiles, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(98, 100, 0.930, 0.9945), (100, 100, 0.963, 1.0), (0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634)],
)
def test_wilson_interval_matches_published_values(successes, n, low, high):
    """The interval is Wilson's score interval, to three decimals."""
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-3)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_rate(counts):
    """The interval is inside 0..1 and holds the measured rate."""
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] - 1e-12 <= high <= 1


def test_each_instruction_is_said_once():
    """In an order that does not depend on which came first."""
    told = ["Push.", "Pull.", "Push."]
    results = [EpisodeResult(i, i, "success", "", task, duration_sec=1.0) for i, task in enumerate(told)]
    assert instructions(results) == instructions(results[1:]) == "Pull. / Push."


def test_nothing_run_means_nothing_known():
    """Without episodes the interval is everything and there are no percentiles."""
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert percentiles([]) == {}
