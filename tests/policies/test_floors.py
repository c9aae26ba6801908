"""Nothing that hardly moves is blown up."""

import numpy as np
import pytest

from positronic.bake.statistics import of_rows
from positronic.policies.floors import with_floor

STILL, MOVING = 0, 1


@pytest.fixture
def stats():
    """A number that is always 0.7, and one that goes from 0 to 1."""
    return of_rows(np.stack([np.full(200, 0.7), np.linspace(0, 1, 200)], axis=1))


@pytest.mark.parametrize(("low", "high"), [("min", "max"), ("q01", "q99"), ("q10", "q90")])
def test_a_spread_is_at_least_the_floor_about_its_middle(stats, low, high):
    """And one that is wide enough keeps its bits."""
    made = with_floor(stats, 0.01)
    assert made[high][STILL] - made[low][STILL] == pytest.approx(0.01)
    assert (made[high][STILL] + made[low][STILL]) / 2 == pytest.approx(0.7)
    assert (made[low][MOVING], made[high][MOVING]) == (stats[low][MOVING], stats[high][MOVING])


def test_a_standard_deviation_is_at_least_the_floor(stats):
    """And a larger one stays, as the mean does."""
    made = with_floor(stats, 0.01)
    np.testing.assert_array_equal(made["std"], [0.01, stats["std"][MOVING]])
    np.testing.assert_array_equal(made["mean"], stats["mean"])


def test_a_gripper_that_is_rarely_closed_keeps_its_range():
    """Its quantiles are all 0: a closed gripper must not become 200."""
    rows = np.zeros((1000, 1))
    rows[:5] = 1.0
    made = with_floor(of_rows(rows), 0.01)
    assert [made[name][0] for name in ("q01", "q99", "q10", "q90")] == [0, 1, 0, 1]


def test_statistics_that_a_dataset_lacks_are_not_made_up():
    """Older datasets have no quantiles."""
    assert with_floor({"min": np.zeros(1), "max": np.zeros(1)}, 0.01).keys() == {"min", "max"}
