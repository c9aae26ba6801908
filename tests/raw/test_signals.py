import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from positronic.errors import PositronicError
from positronic.raw.signals import VectorSignal


def signal(tmp_path, times, values, **options):
    """A signal 'x' of version 1."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"timestamp": pa.array(times, pa.int64()), "value": pa.array(values)}), path)
    return VectorSignal("x", path, **options)


def test_scalars(tmp_path):
    """Scalars are (N,), and a query of (T,) gives (T,)."""
    x = signal(tmp_path, [0, 10, 20], [0.0, 1.0, 2.0])
    assert x.shape == ()
    assert x.at([0, 9, 10, 99, 5]).tolist() == [0.0, 0.0, 1.0, 2.0, 0.0]


def test_vectors(tmp_path):
    """Vectors are (N, D), and a query of (T,) gives (T, D)."""
    x = signal(tmp_path, [0, 10], [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    assert x.shape == (3,)
    assert x.at(np.array([12, 0])).tolist() == [[3.0, 4.0, 5.0], [0.0, 1.0, 2.0]]


def test_a_single_time(tmp_path):
    """One time gives one sample, without a leading axis."""
    assert signal(tmp_path, [0, 10], [[0.0, 1.0], [2.0, 3.0]]).at(11).tolist() == [2.0, 3.0]


def test_before_the_first_sample(tmp_path):
    """The signal and its first stamp are named."""
    with pytest.raises(PositronicError, match=r"'x' has no value yet at 9 ns: its first sample is at 10 ns"):
        signal(tmp_path, [10], [0.0]).at([9])


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0.5], "f8"), ([1], "i8"), ([True], "?"), (np.array([0.5], "f4"), "f4"), (["open"], "O")],
)
def test_recorded_types_are_kept(tmp_path, values, kind):
    """Nothing is converted on the way."""
    x = signal(tmp_path, [0], values)
    assert x.values.dtype == np.dtype(kind)
    assert x.values[0] == values[0]
    x.check()


def test_an_inverted_gripper(tmp_path):
    """1 - x, in the recorded dtype."""
    x = signal(tmp_path, [0, 1], np.array([0.0, 0.75], "f4"), inverted=True)
    assert (x.values.tolist(), x.values.dtype) == ([1.0, 0.25], np.float32)


def test_a_window(tmp_path):
    """The value that holds at the window's start is carried there."""
    times, values = signal(tmp_path, [0, 10, 20, 30], [0.0, 1.0, 2.0, 3.0]).window(15, 30)
    assert (times.tolist(), values.tolist()) == ([15, 20], [1.0, 2.0])


def test_many_row_groups(tmp_path):
    """Files written in several groups are one signal."""
    path = tmp_path / "x.parquet"
    table = pa.table({"timestamp": range(25), "value": [[float(i)] for i in range(25)]})
    pq.write_table(table, path, row_group_size=10)
    assert VectorSignal("x", path).values[:, 0].tolist() == list(range(25))
