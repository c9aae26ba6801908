"""The grid is exact, and says which sample counts when."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from positronic import keys
from positronic.bake.sampling import camera_indices, episode_grid, grid_ns, require_signals, sample_vectors
from positronic.errors import PositronicError
from positronic.raw.dataset import open_dataset
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
    with pytest.raises(BadEpisode, match="never overlap"):
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


def renamed(dataset, name, new_name):
    """The recording with one numeric signal under another name."""
    for episode in dataset:
        (episode.path / f"{name}.parquet").rename(episode.path / f"{new_name}.parquet")
    return open_dataset(dataset.root)


def refusal(dataset, codec):
    with pytest.raises(PositronicError) as caught:
        require_signals(dataset, codec)
    return str(caught.value)


def test_a_signal_of_no_episode_is_named_with_what_it_could_be(record, recipe):
    """The codec, the signal, and the one signal that could be it, as it is to be typed."""
    message = refusal(renamed(record(), keys.TARGET_GRIP, "gripper_goal"), recipe().codec)
    assert "Codec 'ee' needs 'target_grip', which no episode of" in message
    assert "If it is 'gripper_goal': 'dataset.aliases={target_grip: gripper_goal}'" in message


def test_no_hint_names_what_it_cannot_be(record, recipe):
    """Poses are no joints, commands no measurements: following such a hint would train wrong data without a word."""
    message = refusal(record(leave_out=(keys.JOINT_POSITION, keys.COMMAND_JOINTS)), recipe("joints").codec)
    assert "none of these can stand for it (joint positions in rad)" in message
    assert "dataset.aliases" not in message
    assert "mean" not in message


def test_a_hint_lists_only_signals_of_that_size(record, recipe):
    """A scalar and text under unknown names are not proposed for seven joints."""
    dataset = renamed(record(), keys.JOINT_POSITION, "arm.angles")
    renamed(dataset, keys.TARGET_GRIP, "arm.opening")
    message = refusal(open_dataset(dataset.root), recipe("joints").codec)
    assert "If it is 'arm.angles': 'dataset.aliases={robot_state.q: arm.angles}'" in message


def test_a_signal_that_some_episodes_have_is_present(record, recipe):
    """It is then the others that are bad."""
    record(leave_out=(keys.TARGET_GRIP,))
    require_signals(record(), recipe().codec)


def test_an_alias_from_a_signal_that_is_in_no_episode(record, recipe):
    """Also when the name itself was recorded, and when no codec asks for it; the nearest recorded name is proposed."""
    dataset = open_dataset(record().root, aliases={keys.EE_POSE: "robot_state.ee_poses"})
    message = refusal(dataset, recipe().codec)
    assert "{robot_state.ee_pose: robot_state.ee_poses}: no episode of" in message
    assert "Did you mean 'robot_state.ee_pose'?" in message


@pytest.mark.parametrize(
    ("source", "codec", "name", "found"),
    [
        (
            keys.GRIP,
            "ee",
            keys.EE_POSE,
            "needs 7 numbers a sample under 'robot_state.ee_pose', but 'x' holds 1",
        ),
        (keys.EE_POSE, "joints", keys.JOINT_POSITION, "'x' holds poses"),
        (keys.GRIP, "ee", keys.IMAGE_WRIST, "needs pictures under 'image.wrist', but 'x' holds 1"),
    ],
)
def test_an_alias_of_another_size_or_kind(record, recipe, source, codec, name, found):
    """A name that nobody knows is judged by its numbers, before anything is baked."""
    dataset = renamed(record(), source, "x")
    assert found in refusal(open_dataset(dataset.root, aliases={name: "x", source: "x"}), recipe(codec).codec)


def test_a_dataset_without_signals_is_what_is_blamed(record, recipe):
    """Not the codec."""
    dataset = record(seconds=0)
    assert "has any signal" in refusal(dataset, recipe().codec)
    assert "has no episode" in refusal(dataset[:0], recipe().codec)


def test_text_where_numbers_belong_makes_a_bad_episode(record):
    """It is named, and the bake goes on to the others."""
    episode = record()[0]
    table = pa.table({"timestamp": [0, NS // 10], "value": ["open", "closed"]})
    pq.write_table(table, episode.path / f"{keys.GRIP}.parquet")
    with pytest.raises(BadEpisode, match=r"grip\.parquet holds text, expected numbers"):
        sample_vectors(episode, [keys.GRIP], np.array([0]))
