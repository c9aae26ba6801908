"""The grid is exact, and says which sample counts when."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from positronic import keys
from positronic.bake.sampling import camera_indices, episode_grid, grid_ns, require_signals
from positronic.errors import PositronicError
from positronic.raw.faults import BadEpisode

NS = 10**9
EXAMPLES = settings(deadline=None)  # a busy machine is no failure


@EXAMPLES
@given(st.integers(0, 2**60), st.integers(0, 200 * NS), st.integers(1, 240))
def test_the_grid_is_the_formula_in_exact_arithmetic(start, duration, fps):
    """t_k = start + floor(k * 10**9 / fps) for k < ceil(duration * fps), whatever the size of the stamps."""
    times = grid_ns(start, start + duration, fps)
    assert len(times) == ceil(Fraction(duration, NS) * fps)
    for k in {0, 1, len(times) // 2, len(times) - 1} & set(range(len(times))):
        assert times[k] == start + floor(Fraction(k * NS, fps))


@EXAMPLES
@given(st.integers(0, 2**60), st.integers(1, 100 * NS), st.integers(1, 240))
def test_the_grid_lies_within_the_episode(start, duration, fps):
    """Every grid point is at or after the start and before the last stamp."""
    times = grid_ns(start, start + duration, fps)
    assert times[0] == start
    assert times[-1] < start + duration
    assert (np.diff(times) > 0).all()


def test_frames_stamped_by_flooring_belong_to_their_own_grid_point(record):
    """A camera at the bake's rate gives each of its frames once."""
    episode = record(seconds=4, camera_hz=15, vector_hz=15)[0]
    times = grid_ns(0, 4 * NS - NS // 15, 15)
    indices = camera_indices(episode, keys.IMAGE_WRIST, times, None)
    np.testing.assert_array_equal(indices, np.arange(len(times)))


def test_only_the_signals_in_use_bound_the_episode(record):
    """A camera that stops early, and is not used, does not cut the episode; one in use carries its last frame on."""
    episode = record(seconds=2, camera_until_sec=0.5, vector_hz=40)[0]
    assert len(episode_grid(episode, [keys.GRIP], 20)) == 40
    assert len(episode_grid(episode, [keys.IMAGE_WRIST], 20)) == 9
    assert len(episode_grid(episode, [keys.IMAGE_WRIST, keys.GRIP], 20)) == 40


def test_a_single_stamp_is_no_episode(record):
    """Signals that all end where they begin leave nothing to bake."""
    episode = record(seconds=0.03, vector_hz=40, leave_out=(keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR))[0]
    with pytest.raises(BadEpisode, match="nothing is left"):
        episode_grid(episode, [keys.GRIP], 15)


def test_a_camera_that_stands_still_makes_a_bad_episode(record):
    """Longer than max_staleness_sec is refused with camera and time; shorter, or no limit, is not."""
    episode = record(seconds=3, camera_until_sec=1)[0]
    times = episode_grid(episode, [keys.IMAGE_WRIST, keys.GRIP], 15)
    with pytest.raises(BadEpisode, match=rf"'{keys.IMAGE_WRIST}' stands still.*max_staleness_sec=1.0"):
        camera_indices(episode, keys.IMAGE_WRIST, times, 1.0)
    last = camera_indices(episode, keys.IMAGE_WRIST, times, None)[-1]
    assert last == len(episode[keys.IMAGE_WRIST].times_ns) - 1
    camera_indices(episode, keys.IMAGE_WRIST, times, 2.5)


def test_a_signal_of_no_episode_is_named_with_the_nearest(record):
    """The codec, the signal, the nearest one present and what to type are in the message."""
    dataset = record(leave_out=(keys.TARGET_GRIP,))
    with pytest.raises(PositronicError, match=r"'ee' needs 'target_grip'.*Did you mean 'grip'\?.*dataset.aliases"):
        require_signals(dataset, [keys.GRIP, keys.TARGET_GRIP], "ee", "raw")


def test_a_signal_that_some_episodes_have_is_present(record):
    """It is then the others that are bad."""
    record(leave_out=(keys.TARGET_GRIP,))
    require_signals(record(), [keys.GRIP, keys.TARGET_GRIP], "ee", "raw")
