"""What became of each episode of a shard, in one parquet file: everything that the dataset needs but the videos.

Vectors are stored as raw samples and not as columns, because the sign of a rotation depends on the movements of all
shards. Arrays are stored in numpy's own format: samples keep the type that they were recorded in, so that encoding them
later gives the same bits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic.bake.episode import BakedEpisode, Rejected, Samples
from positronic.bake.frames import Histogram
from positronic.bake.orientation import Movement
from positronic.bake.reading import reading

RECORDS_FILE = "episodes.parquet"
RECORDS_PER_GROUP = 20  # an episode of ten minutes has some MB of samples
SAMPLES, HISTOGRAMS, MOVEMENTS = "samples/", "histograms/", "movements/"
POINTS = "/points"


class Record(NamedTuple):
    """One episode. ``reason``: why it is bad; then the rest is empty. ``histograms``: by column of pictures."""

    uid: str
    reason: str | None
    fingerprint: str
    task: str
    length: int
    joint_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    samples: Samples
    histograms: dict[str, Histogram]


class RecordWriter:
    """Takes the episodes of a shard one after another. ``signals``: the codec's, that are numbers. ``cameras``: columns
    of pictures. ``turning``: signals that have movements."""

    def __init__(self, path: Path, signals: Sequence[str], cameras: Sequence[str], turning: Sequence[str]) -> None:
        arrays = [*(SAMPLES + name for name in signals), *(HISTOGRAMS + name for name in cameras)]
        arrays += [MOVEMENTS + name + end for name in turning for end in ("", POINTS)]
        texts = [pa.field(name, pa.string()) for name in ("uid", "reason", "fingerprint", "task")]
        lists = [pa.field(name, pa.list_(pa.string())) for name in ("joints", "notes")]
        self._schema = pa.schema(
            [*texts, pa.field("length", pa.int64()), *lists, *(pa.field(name, pa.large_binary()) for name in arrays)]
        )
        self._rows: list[dict[str, Any]] = []
        self._file = pq.ParquetWriter(path, self._schema, compression="snappy")

    def write(self, result: BakedEpisode | Rejected, movements: Mapping[str, Movement]) -> None:
        """Append an episode. A bad one has movements too, as far as it can be read."""
        row = _of_rejected(result) if isinstance(result, Rejected) else _of_baked(result)
        for name, movement in movements.items():
            row[MOVEMENTS + name], row[MOVEMENTS + name + POINTS] = map(_packed, _sums_and_points(movement))
        self._rows.append(row)
        if len(self._rows) >= RECORDS_PER_GROUP:
            self._write_group()

    def close(self) -> None:
        """Finish the file; may be called again."""
        self._write_group()
        self._file.close()

    def _write_group(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def read_records(path: Path) -> Iterator[Record]:
    """The episodes in order. Raises PositronicError for a file that cannot be read."""
    for row in _rows(path, lambda name: not name.startswith(MOVEMENTS)):
        names = row["joints"]
        yield Record(
            uid=row["uid"],
            reason=row["reason"],
            fingerprint=row["fingerprint"],
            task=row["task"],
            length=row["length"],
            joint_names=None if names is None else tuple(names),
            notes=tuple(row["notes"] or ()),
            samples=_arrays(row, SAMPLES),
            histograms=_arrays(row, HISTOGRAMS),
        )


def read_movements(path: Path) -> Iterator[dict[str, Movement]]:
    """The movements of each episode in order, by signal; of bad ones too."""
    for row in _rows(path, lambda name: name.startswith(MOVEMENTS)):
        found = _arrays(row, MOVEMENTS)
        yield {name: _movement(sums, found[name + POINTS]) for name, sums in found.items() if not name.endswith(POINTS)}


def _of_rejected(result: Rejected) -> dict[str, Any]:
    return {"uid": result.uid, "reason": result.reason}


def _of_baked(result: BakedEpisode) -> dict[str, Any]:
    row = {"uid": result.source.uid, "fingerprint": result.source.fingerprint, "task": result.task}
    row |= {"length": result.length, "joints": result.joint_names, "notes": result.notes}
    row |= {SAMPLES + name: _packed(values) for name, values in (result.samples or {}).items()}
    return row | {HISTOGRAMS + name: _packed(counts) for name, counts in result.histograms.items()}


def _rows(path: Path, is_wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    with reading(path), pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if is_wanted(name)]
        if not columns:  # a codec without rotations
            yield from ({} for _ in range(file.metadata.num_rows))
            return
        for batch in file.iter_batches(RECORDS_PER_GROUP, columns=columns):
            yield from batch.to_pylist()


def _sums_and_points(movement: Movement) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    sums = [movement.second.ravel(), movement.recorded, movement.continuous, [movement.flips]]
    return np.concatenate(sums), movement.points


def _movement(sums: NDArray[np.float64], points: NDArray[np.uint32]) -> Movement:
    return Movement(sums[:16].reshape(4, 4), sums[16:20], sums[20:24], points, int(sums[24]))


def _packed(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)
    return file.getvalue()


def _arrays(row: Mapping[str, Any], prefix: str) -> dict[str, NDArray[Any]]:
    found = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
    return {
        name: np.lib.format.read_array(io.BytesIO(value), allow_pickle=False)
        for name, value in found.items()
        if value is not None
    }
