"""Chunks on the clock."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from positronic.commands import ActionStep, JointPosition
from positronic.errors import PositronicError
from positronic.rollout.playback import schedule, to_ns


def chunk(*stamps):
    return [ActionStep.of_one(JointPosition(np.zeros(1)), 0.0, stamp) for stamp in stamps]


increasing = st.lists(st.integers(1, 2000), min_size=1, max_size=20).map(lambda gaps: np.cumsum(gaps) / 1000)
chunks = increasing.map(lambda stamps: chunk(*stamps))
steps_sec = st.sampled_from([0.02, 1 / 15, 0.1, 1.0])
starts_ns = st.integers(0, 10**12)


@given(chunks, starts_ns, steps_sec)
def test_every_step_is_played_once_in_order_when_it_is_due(steps, start_ns, step_sec):
    """Each step appears exactly once, in the chunk's order, at the chunk's start plus its timestamp."""
    events = [event for event in schedule(steps, start_ns, step_sec).events() if event.step]
    assert [event.step for event in events] == steps
    assert [event.time_ns for event in events] == [start_ns + to_ns(step.timestamp) for step in steps]


@given(chunks, starts_ns, steps_sec)
def test_the_chunk_ends_one_control_step_after_its_last_timestamp(steps, start_ns, step_sec):
    """The next observation is sent at last timestamp + control step, to a nanosecond."""
    end_ns = schedule(steps, start_ns, step_sec).end_ns
    assert end_ns == start_ns + to_ns(steps[-1].timestamp + step_sec)


@given(chunks, starts_ns, steps_sec, st.integers(0, 10**9))
def test_the_robot_is_looked_at_at_least_once_per_control_step(steps, start_ns, step_sec, latency_ns):
    """Events start with the question, increase strictly, and leave no gap of two control steps or more."""
    plan = schedule(steps, start_ns, step_sec, latency_ns)
    times = np.array([*[event.time_ns for event in plan.events()], plan.end_ns])
    assert np.all(np.diff(times) > 0)
    assert np.all(np.diff(times) < 2 * plan.step)
    assert times[0] == start_ns


@given(st.integers(1, 60), st.sampled_from([5, 10, 15, 30]))
def test_regular_chunks_follow_each_other_without_a_gap(count, fps):
    """A chunk of n steps at f Hz lasts n / f seconds and its events are the steps alone."""
    plan = schedule(chunk(*[k / fps for k in range(count)]), 0, 1 / fps)
    assert plan.end_ns == count * 10**9 // fps
    assert len(list(plan.events())) == count


@given(st.lists(st.integers(1, 20), min_size=2, max_size=30), st.sampled_from([7, 15, 30, 29.97]))
def test_chunk_after_chunk_stays_on_the_grid(counts, fps):
    """Nothing is lost between chunks: what was played at step k of an episode is at floor(k / fps)."""
    now, times = 0, []
    for count in counts:
        plan = schedule(chunk(*[k / fps for k in range(count)]), now, 1 / fps)
        times += [event.time_ns for event in plan.events()]
        now = plan.end
    assert times == [int(Fraction(k * 10**9) / Fraction(str(fps))) for k in range(sum(counts))]


def test_six_steps_at_15_hz_last_400_ms():
    """5/15 + 1/15 is less than 0.4 as floats: one physics step of 200 would be missing."""
    assert schedule(chunk(*[k / 15 for k in range(6)]), 0, 1 / 15).end_ns == 400_000_000


def test_an_empty_chunk_waits_for_one_control_step():
    """Nothing new: the robot is looked at once, and the policy is asked again a step later."""
    plan = schedule([], 5, 0.1)
    assert ([event.step for event in plan.events()], plan.end_ns) == ([None], 100_000_005)


@pytest.mark.parametrize("stamps", [(0.0, 0.0), (0.1, 0.0), (-0.1,), (float("nan"),), (0.0, float("inf"))])
def test_a_chunk_that_cannot_be_played_is_refused(stamps):
    """Timestamps that do not increase are the server's mistake, and say so."""
    with pytest.raises(PositronicError, match="chunk"):
        schedule(chunk(*stamps), 0, 0.1)
