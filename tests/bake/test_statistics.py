"""Statistics equal numpy's over all values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from positronic.bake import statistics
from positronic.bake.selection import order_statistics

FINITE = st.floats(-1e6, 1e6, width=32)
TABLES = arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=FINITE)
EXAMPLES = settings(deadline=None, max_examples=50)  # a busy machine is no failure


def numpy_stats(rows):
    """By numpy, in float64, over axis 0."""
    rows = np.asarray(rows, np.float64)
    quantiles = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
    stats = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    return (
        stats | {"count": np.array([len(rows)])} | {name: np.quantile(rows, q, axis=0) for name, q in quantiles.items()}
    )


def assert_equal(found, expected, scale=1.0):
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-12 * scale, err_msg=name)


@EXAMPLES
@given(TABLES, st.integers(7, 60))
def test_vectors_in_blocks_equal_numpy_over_all(table, block):
    """min, max, mean, std, count and quantiles of all rows, however they are cut."""
    blocks = [table[i : i + block] for i in range(0, len(table), block)]
    found = statistics.of_blocks(lambda: iter(blocks))
    expected = numpy_stats(table)
    assert_equal(found, expected, scale=1e6)
    for name in ("min", "max", "q01", "q50"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@EXAMPLES
@given(TABLES)
def test_an_episode_equals_numpy(table):
    """The statistics of one episode, in memory."""
    assert_equal(statistics.of_rows(table), numpy_stats(table), scale=1e6)


@EXAMPLES
@given(arrays(np.float32, st.integers(1, 200), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_order_statistics_are_exact_for_every_float(values):
    """Every rank, over the whole range of float32, with ties, zeros of both signs and denormals."""
    found = order_statistics(lambda: iter([values[:, None]]), range(len(values)))
    np.testing.assert_array_equal(np.concatenate(list(found.values())), np.sort(values).astype(np.float64))


@EXAMPLES
@given(arrays(np.int64, 256, elements=st.integers(0, 5)).filter(lambda counts: counts.any()))
def test_counts_equal_numpy_over_the_values_they_stand_for(counts):
    """A histogram is as good as the pixels."""
    values = np.arange(256) / 255
    assert_equal(statistics.of_counts(values, counts), numpy_stats(np.repeat(values, counts)[:, None]))


def test_image_statistics_equal_numpy_over_all_pixels():
    """Per channel, scaled to 0..1, in LeRobot's shape; counted in frames."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    histograms = np.stack([np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(3)])
    found = statistics.of_histograms(histograms, len(frames))
    expected = numpy_stats(frames.reshape(-1, 3) / 255)
    for name in expected.keys() - {"count"}:
        np.testing.assert_allclose(found[name], expected[name].reshape(3, 1, 1), rtol=1e-12, err_msg=name)
    assert found["count"] == [5]


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_a_range_equals_numpy(count):
    """The closed form of 0, 1, ..., count - 1."""
    assert_equal(statistics.of_range(count), numpy_stats(np.arange(count)[:, None]))
