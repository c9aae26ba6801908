"""Chunks that are asked for ahead, by the clock."""

import itertools
from fractions import Fraction

import pytest
from chunk_clock import STEP, STEP_SEC, Clock, told
from hypothesis import given
from hypothesis import strategies as st

from positronic.rollout.ask_ahead import ask_ahead
from positronic.rollout.playback import play_out

FOREVER = 10**12


def ahead(clock, remaining, end_ns=FOREVER):
    return ask_ahead(Fraction(0), end_ns, clock.ask, STEP_SEC, remaining)


def test_an_answer_in_time_goes_on_from_where_the_arm_is():
    """Asked with two of four steps to go, answered one step later: the new chunk's first step has passed by then."""
    clock = Clock(4, latency=1)
    assert told(ahead(clock, 2), 10) == [
        *[(0, "idle"), (1, 0.0), (2, 0.01), (3, 0.02)],  # asked at 3, answered at 4
        *[(4, 1.01), (5, 1.02), (6, 2.01), (7, 2.02), (8, 3.01), (9, 3.02)],
    ]
    assert clock.asked == [0, 3, 5, 7, 9]


def test_the_first_chunk_is_played_from_its_start_however_late():
    """The arm stood still since it was asked for."""
    assert told(ahead(Clock(3, latency=Fraction(5, 2)), 1), 4) == [(0, "idle"), (1, "idle"), (2.5, 0.0), (3.5, 0.01)]


def test_an_arm_that_runs_out_stands_and_goes_on_with_the_step_it_had_come_to():
    """One step was played of those that the late chunk repeats; the 1.5 control steps of standing do not count."""
    clock = Clock(3, latency=Fraction(5, 2))
    first = [(0, "idle"), (1, "idle"), (2.5, 0.0), (3.5, 0.01), (4.5, 0.02)]  # asked at 4.5
    assert told(ahead(clock, 1), 9) == [*first, (5.5, "idle"), (7, 1.01), (8, 1.02), (9, "idle")]
    assert clock.asked[:2] == [0, 4.5]


def test_an_answer_at_once_replaces_what_remained():
    """As if the model took no time: the chunk's last two steps are never played."""
    clock = Clock(4)
    assert told(ahead(clock, 2), 5) == [(0, 0.0), (1, 0.01), (2, 1.0), (3, 1.01), (4, 2.0)]


def test_chunks_that_are_no_longer_than_what_remains_are_asked_for_at_every_step():
    """And only once at each."""
    clock = Clock(2)
    assert told(ahead(clock, 5), 4) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert clock.asked == [0, 1, 2, 3]


def test_an_empty_chunk_changes_nothing():
    """What remains is played; without anything left, the current step stays for a control step."""
    clock = Clock(3, 0, 0, 2)
    assert told(ahead(clock, 1), 6) == [(0, 0.0), (1, 0.01), (2, 0.02), (3, None), (4, 3.0), (5, 4.0)]


def test_an_answer_that_is_later_than_all_its_steps_is_no_end():
    """The policy is asked again, and that chunk is played from its start."""
    rows = told(ahead(Clock(2, latency=4), 2), 24)
    assert [what for _, what in rows if what not in ("idle", None)][:4] == [0.0, 0.01, 2.0, 2.01]


sizes = st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(lambda each: each[-1] > 0)
latencies = st.fractions(0, 5, max_denominator=8)


@given(sizes, latencies, st.integers(1, 7))
def test_time_goes_on_and_the_robot_is_looked_at(each, latency, remaining):
    """Whatever comes: events increase strictly, with no gap of two control steps, and questions one at a time."""
    clock = Clock(*each, latency=latency)
    times = [time for time, _ in told(ahead(clock, remaining), 60)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert times[0] == 0
    assert all(0 < gap < 2 for gap in gaps)
    assert all(b - a >= latency for a, b in itertools.pairwise(clock.asked))


@given(st.integers(1, 6), st.integers(1, 7), latencies)
def test_steps_are_half_a_control_step_apart_and_in_the_order_of_their_chunk(size, remaining, latency):
    """No chunk goes back in itself, and no older chunk comes after a newer one."""
    rows = [row for row in told(ahead(Clock(size, latency=latency), remaining), 60) if row[1] not in (None, "idle")]
    assert [what for _, what in rows] == sorted(what for _, what in rows)
    assert all(b[0] - a[0] >= 0.5 for a, b in itertools.pairwise(rows))


@given(st.integers(1, 6), latencies)
def test_playing_out_counts_the_same_idle_frames_for_the_first_answer(size, latency):
    """Two ways, one meaning of idle."""
    out, early = Clock(size, latency=latency), Clock(size, latency=latency)
    first = told(play_out(Fraction(0), FOREVER, out.ask, STEP_SEC), 12)
    second = told(ahead(early, 1), 12)
    until = next(number for number, (_, what) in enumerate(first) if what != "idle")
    assert second[: until + 1] == first[: until + 1]


@pytest.mark.parametrize("end", [0, 3.5, 4])
def test_nothing_is_asked_after_the_end(end):
    """Not even when a step is due after it."""
    clock = Clock(4, latency=1)
    list(ahead(clock, 2, int(end * STEP)))
    assert all(asked < end for asked in clock.asked)
