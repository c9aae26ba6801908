import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from positronic.errors import PositronicError
from positronic.raw.timeline import goes_back_at, index_at, window

STAMPS = st.lists(st.integers(0, 40), min_size=1, max_size=12).map(lambda times: np.array(sorted(times), np.int64))
TIME = st.integers(-5, 50)


def brute_index(stamps, time):
    """Index of the last sample at or before ``time``, by looking at each of them."""
    return max((i for i, stamp in enumerate(stamps) if stamp <= time), default=None)


@given(STAMPS, st.lists(TIME, max_size=8))
def test_the_value_is_the_last_sample_at_or_before(stamps, times):
    """Every time from the first stamp on, in any order, gets the sample that a search of all samples finds."""
    times = [time for time in times if time >= stamps[0]]
    assert index_at(stamps, times, "x").tolist() == [brute_index(stamps, time) for time in times]


@given(STAMPS, st.integers(1, 10))
def test_before_the_first_sample_there_is_no_value(stamps, earlier):
    """One time before the first stamp makes the whole query an error that names the signal."""
    with pytest.raises(PositronicError, match="'grip' has no value yet"):
        index_at(stamps, [stamps[0], stamps[0] - earlier], "grip")


@given(STAMPS, st.integers(0, 2**62))
def test_after_the_last_sample_its_value_stays(stamps, later):
    """There is no end: the last value is repeated for ever."""
    assert index_at(stamps, [stamps[-1] + later], "x").tolist() == [len(stamps) - 1]


@given(STAMPS, TIME, TIME)
def test_a_window_is_the_step_function_cut_out(stamps, start, stop):
    """At every instant of the window, its own samples give the value that the whole signal gives, or none as well."""
    times, indices = window(stamps, start, stop)
    assert ((times >= start) & (times < stop)).all()
    for time in range(start, stop):
        inside = brute_index(times, time)
        assert (None if inside is None else indices[inside]) == brute_index(stamps, time)


@given(st.sets(st.integers(0, 40), min_size=1).map(sorted), TIME, TIME)
def test_a_window_holds_each_sample_once_and_one_carried(stamps, start, stop):
    """Samples in [start, stop), and before them the one that holds at ``start`` if no sample is stamped just so."""
    times, indices = window(np.array(stamps, np.int64), start, stop)
    expected = [(stamp, i) for i, stamp in enumerate(stamps) if start <= stamp < stop]
    carried = brute_index(stamps, start)
    if start < stop and carried is not None and start not in stamps:
        expected.insert(0, (start, carried))
    assert list(zip(times.tolist(), indices.tolist(), strict=True)) == expected


@given(st.lists(st.integers(0, 20), max_size=10))
def test_going_back_is_found_where_it_happens(times):
    """The row named is the first whose stamp is earlier than the one before it."""
    expected = next((i for i in range(1, len(times)) if times[i] < times[i - 1]), None)
    assert goes_back_at(np.array(times, np.int64)) == expected


def test_no_times_asked_no_indices_given():
    """An empty query is answered with nothing, even for a signal without samples."""
    assert index_at(np.zeros(0, np.int64), [], "x").shape == (0,)


def test_a_signal_without_samples_says_so():
    """Asking an empty signal for a value names it and the reason."""
    with pytest.raises(PositronicError, match="'x'.*no samples"):
        index_at(np.zeros(0, np.int64), [3], "x")


def test_float_times_are_refused():
    """Seconds, or nanoseconds that have lost digits, are not taken for nanoseconds."""
    with pytest.raises(TypeError, match="integer nanoseconds"):
        index_at(np.array([0], np.int64), np.array([0.5]), "x")


def test_a_single_time_gives_a_single_index():
    """Epoch-sized stamps are exact to the nanosecond."""
    epoch = 1_770_000_000_000_000_000
    stamps = np.array([epoch, epoch + 1, epoch + 2], np.int64)
    assert index_at(stamps, epoch + 1, "x") == 1
