"""Version 2 of the signal files: several clocks, none of them called ``timestamp``."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from positronic import keys
from positronic.raw.episode import BadEpisode, Episode

HARNESS = "ts.harness.world"
RECEIVED = "ts.received.world"
WALL = "ts.received.wall"
EMITTED = "ts.emitted.wall"


def write_v2(path, timelines, values=None, version=b"2"):
    """A file of version 2: non-null clocks, then the values; the version in the schema's metadata."""
    fields = [pa.field(name, pa.int64(), nullable=False) for name in timelines]
    arrays = [pa.array(times, pa.int64()) for times in timelines.values()]
    if values is not None:
        fields.append(pa.field("value", values.type))
        arrays.append(values)
    schema = pa.schema(fields, metadata={b"positronic.signal_version": version})
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


@pytest.fixture
def episode(record):
    """To be overwritten with files of version 2."""
    return record(samples=3, frames=3)


@pytest.mark.parametrize(
    ("clocks", "chosen"),
    [
        ((EMITTED, RECEIVED, HARNESS), HARNESS),
        ((EMITTED, WALL, RECEIVED), RECEIVED),
        ((WALL, EMITTED), EMITTED),
        ((WALL,), WALL),
    ],
)
def test_the_clock_of_a_vector(episode, clocks, chosen):
    """The harness's world clock, else the receiver's, else the first by name."""
    timelines = {name: [100 * i, 100 * i + 1, 100 * i + 2] for i, name in enumerate(clocks)}
    write_v2(episode.path / f"{keys.GRIP}.parquet", timelines, pa.array([0.0, 0.5, 1.0]))
    signal = Episode(episode.path)[keys.GRIP]
    assert signal.times_ns.tolist() == timelines[chosen]
    assert signal.values.tolist() == [0.0, 0.5, 1.0]


def test_vectors(episode):
    """Lists stack to (N, D)."""
    write_v2(episode.path / f"{keys.EE_POSE}.parquet", {RECEIVED: [0, 1]}, pa.array([[0.0, 1.0], [2.0, 3.0]]))
    assert np.array_equal(Episode(episode.path)[keys.EE_POSE].values, [[0.0, 1.0], [2.0, 3.0]])


def test_the_clock_of_a_video(episode):
    """An index of version 2 goes by the same order."""
    timelines = {WALL: [7, 8, 9], RECEIVED: [0, 10, 20]}
    write_v2(episode.path / f"{keys.IMAGE_WRIST}.frames.parquet", timelines)
    video = Episode(episode.path)[keys.IMAGE_WRIST]
    assert video.index_at([5, 10, 99]).tolist() == [0, 1, 2]
    video.check()


def test_equal_stamps(episode):
    """A clock of version 2 may stand still while another one goes on; the last sample counts."""
    clocks = {RECEIVED: [0, 5, 5, 9], EMITTED: [0, 1, 2, 3]}
    write_v2(episode.path / f"{keys.GRIP}.parquet", clocks, pa.array([0.0, 1.0, 2.0, 3.0]))
    assert Episode(episode.path)[keys.GRIP].at([4, 5, 6]).tolist() == [0.0, 2.0, 2.0]


def test_a_stamp_that_comes_twice_on_every_clock(episode):
    """The format wants one clock that goes on; the rows and the stamp are named."""
    clocks = {RECEIVED: [0, 5, 5, 9], EMITTED: [0, 1, 1, 3]}
    write_v2(episode.path / f"{keys.GRIP}.parquet", clocks, pa.array([0.0, 1.0, 2.0, 3.0]))
    with pytest.raises(BadEpisode, match="rows 1 and 2 have the same stamp, 5 ns"):
        _ = Episode(episode.path)[keys.GRIP].times_ns


def test_an_empty_file_has_no_clock(episode):
    """A channel that never fired: no samples, and not an unreadable file."""
    write_v2(episode.path / f"{keys.GRIP}.parquet", {}, pa.array([], pa.int64()))
    assert len(Episode(episode.path)[keys.GRIP].times_ns) == 0


def test_a_newer_version_is_refused(episode):
    """A format that is not known yet is not guessed at."""
    write_v2(episode.path / f"{keys.GRIP}.parquet", {RECEIVED: [0]}, pa.array([0.0]), version=b"3")
    with pytest.raises(BadEpisode, match="signal version 3; this reader knows 1 and 2"):
        _ = Episode(episode.path)[keys.GRIP].values


def test_further_clocks_of_version_1_are_ignored(episode):
    """Published recorders add ``ts_ns.*`` columns beside the primary clock."""
    table = pa.table({"timestamp": [0, 1], "value": [0.0, 1.0], "ts_ns.system": [5, 6]})
    pq.write_table(table, episode.path / f"{keys.GRIP}.parquet")
    assert Episode(episode.path)[keys.GRIP].times_ns.tolist() == [0, 1]
