"""Which stamps of a message count, and which stamps cannot be a signal's."""

import numpy as np
import pytest

from positronic.errors import PositronicError
from positronic.importing.clocks import HEADER, LOG, believed_clock, require_increasing, silences, without_repeats

SEC = 10**9
LOGGED = [1700 * SEC + at * SEC // 10 for at in range(20)]
MEASURED = [stamp - 5_000_000 for stamp in LOGGED]


def test_headers_count_where_they_are_the_recorders_clock():
    """They say when something was measured, the log only when it arrived."""
    assert believed_clock(MEASURED, LOGGED)[0] == HEADER


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ([None] * 20, "no stamp"),
        ([None, *MEASURED[1:]], "1 of its 20 messages carry no stamp"),
        ([stamp - 1700 * SEC for stamp in LOGGED], "1700.0 s away from the recorder's clock"),
        ([MEASURED[0]] * 20, "do not increase"),
    ],
)
def test_headers_that_cannot_be_used_are_not_believed(header, why):
    """Beside topics on the recorder's clock, one on a clock of its own would be at another time."""
    clock, reason, is_sure = believed_clock(header, LOGGED)
    assert clock == LOG
    assert why in reason
    assert is_sure == (set(header) == {None})


def test_only_a_sample_recorded_twice_is_left_out():
    times = np.array([0, 10, 10, 20, 30], np.int64)
    assert without_repeats(times, np.array([False, True, True, True, False])).tolist() == [
        True,
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("times", "what"),
    [([0, 10, 5], "message 2 goes back by 0.000000005 s"), ([0, 10, 10], "message 2 is that of the one before")],
)
def test_stamps_that_do_not_increase_are_refused_with_the_other_clock(times, what):
    with pytest.raises(PositronicError, match=f"/arm: the header stamp of {what}") as refused:
        require_increasing(np.array(times, np.int64), "/arm", HEADER)
    assert "'clock: log'" in str(refused.value)


def test_a_gap_is_told_by_its_span_before_between_and_after():
    times = np.array([2 * SEC + at * SEC // 10 for at in (*range(10), *range(25, 35))], np.int64)
    assert silences(times, 0, 10 * SEC) == [(0.0, 2.0), (2.9, 4.5), (5.4, 10.0)]


def test_a_slow_signal_is_not_silent_between_its_samples():
    assert silences(np.arange(0, 30 * SEC, 3 * SEC), 0, 29 * SEC) == []
