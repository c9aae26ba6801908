"""What no robot records: stamps in another unit, and values that leap away and back."""

import numpy as np
import pytest

from positronic import keys
from positronic.raw.faults import BadEpisode
from positronic.raw.plausible import (
    require_no_leaps,
    require_one_clock,
    require_plausible_length,
    require_plausible_times,
)

NS = 10**9
HZ = 30
ROWS = 90


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.parquet"


@pytest.fixture
def times():
    return np.arange(ROWS, dtype=np.int64) * NS // HZ


@pytest.fixture
def joints(times):
    """Each joint swings at up to 1 rad/s."""
    return np.sin(times[:, None] / NS + np.arange(7))


@pytest.fixture
def poses(times):
    """The hand swings, and turns about z."""
    angle = times / NS / 2
    zeros = np.zeros(ROWS)
    return np.stack([np.sin(angle), zeros, zeros, np.cos(angle), zeros, zeros, np.sin(angle)], axis=1)


@pytest.mark.parametrize("per_sec", [1, 10**3])
def test_stamps_in_seconds_or_milliseconds(path, per_sec):
    """Whole numbers, but not of nanoseconds: the rows, the spacing and the factors are named."""
    with pytest.raises(BadEpisode, match=r"rows 0 and 1 are \d+ ns apart.*multiply seconds by 10\*\*9"):
        require_plausible_times(np.arange(10, dtype=np.int64) * per_sec, path)


def test_microseconds_make_an_episode_too_short(path):
    """Four seconds at 30 Hz are 4 ms then, of samples 33 us apart, which nothing is sampled at throughout."""
    times = np.arange(120, dtype=np.int64) * 10**6 // HZ
    with pytest.raises(BadEpisode, match="most rows are 33333 ns apart"):
        require_plausible_times(times, path)
    with pytest.raises(BadEpisode, match=r"lasts 3966666 ns, expected at least 10000000"):
        require_plausible_length(int(times[0]), int(times[-1]), path.parent)


def test_a_stamp_that_is_years_away(path):
    """One wrong stamp would make an episode of a million frames."""
    with pytest.raises(BadEpisode, match=r"lasts 2\.56e\+06 hours"):
        require_plausible_length(0, 2**63 - 1, path.parent)


def test_signals_of_two_clocks(path):
    """One in milliseconds, or since the machine was started, ends long before the others; a late one does not."""
    require_one_clock({"a": [0, NS], "b": [0, 0], "c": [NS, 3600 * NS]}, path.parent)
    with pytest.raises(BadEpisode, match="'a' ends at 1000000000 ns and 'b' at 1770000000000000000 ns"):
        require_one_clock({"a": [0, NS], "b": [0, 1_770_000_000 * NS]}, path.parent)


def test_two_samples_may_follow_each_other_closely(path):
    """A message that was delayed arrives together with the next; only closer than any clock ticks is wrong."""
    require_plausible_times(np.array([0, 10_000, 10_020, 20_000, 30_000]) * 1000, path)


def test_real_clocks_pass(path, times):
    """From 0, from an epoch, and twice the same stamp, which the reader of columns judges."""
    for start in (0, 1_770_000_000 * NS):
        require_plausible_times(times + start, path)
        require_plausible_length(start, start + NS, path.parent)
    require_plausible_times(np.array([0, 0, NS]), path)


@pytest.mark.parametrize("name", [keys.JOINT_POSITION, keys.COMMAND_JOINTS, "robot_state.left.q"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_joints_that_leap_and_come_back(path, times, joints, name, length):
    """As after a flipped byte, which damages one value or a few."""
    joints[40 : 40 + length, 3] += 31
    with pytest.raises(BadEpisode, match=r"element 3 leaps from .* rad at row 40 and back"):
        require_no_leaps(name, times, joints, path)


def test_positions_and_rotations_that_leap(path, times, poses):
    """In metres, and by the elements of a quaternion."""
    poses[10, 1] = 1e30
    with pytest.raises(BadEpisode, match=r"element 1 leaps from 0 to 1e\+30 m at row 10"):
        require_no_leaps(keys.EE_POSE, times, poses, path)
    poses[10, 1] = 0
    poses[20, 5] = 0.9
    with pytest.raises(BadEpisode, match=r"element 5 leaps from 0 to 0.9 of a quaternion at row 20"):
        require_no_leaps(keys.COMMAND_POSE, times, poses, path)


def test_what_robots_do_is_no_leap(path, times, joints, poses):
    """Swinging, a jump that stays (a reset), a joint that is noted at +pi and -pi, a quaternion as q and as -q."""
    joints[50:, 2] += 2
    joints[::2, 6] = np.pi
    joints[1::2, 6] = -np.pi
    require_no_leaps(keys.JOINT_POSITION, times, joints, path)
    poses[::3, 3:] *= -1
    require_no_leaps(keys.EE_POSE, times, poses, path)


def test_noise_has_no_leaps(path, times):
    """A leap is one of few: where every sample leaps, something else is wrong."""
    require_no_leaps(keys.JOINT_POSITION, times, np.random.default_rng(0).normal(size=(ROWS, 7)), path)


def test_other_signals_may_leap(path, times):
    """A gripper's command, a status, a force."""
    values = np.zeros((ROWS, 1))
    values[40] = 100
    require_no_leaps(keys.TARGET_GRIP, times, values, path)
