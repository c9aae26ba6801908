"""The rows of one episode in a parquet file that may hold many episodes, checked against ``meta/``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.importing.lerobot_features import PICTURE, STRING
from positronic.importing.lerobot_meta import EPISODE_INDEX, FRAME_INDEX, TASK_INDEX, TIMESTAMP, Info, Place, reading

NUMBERING = (EPISODE_INDEX, FRAME_INDEX, TIMESTAMP, TASK_INDEX)
TOLERANCE_SEC = 1e-3  # a float32 stamp of an hour is off by a tenth of that
PICTURES_AT_ONCE = 16
KEPT_COLUMNS = 8  # of numbers, mostly: an episode's numbering, its state and its action
KINDS = {"f": pa.types.is_floating, "i": pa.types.is_integer, "u": pa.types.is_integer, "b": pa.types.is_boolean}


@dataclass(frozen=True)
class Rows:
    """``groups``: the file's row groups in which the episode is; it begins at their row ``start``."""

    info: Info
    place: Place
    file: pq.ParquetFile
    groups: list[int]
    start: int

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"{self.place.data}, episode {self.place.index}"

    def numbers(self, name: str) -> NDArray[Any]:
        """(N, D) of a vector, (N,) of a scalar. Raises PositronicError for another type or size than said."""
        feature, column = self.info.features[name], self._column(name)
        values, size = column, int(np.prod(feature.shape, dtype=int))
        if pa.types.is_nested(column.type):
            found = np.unique(np.asarray(_lengths(column)))
            if found.tolist() != [size]:
                raise self._differs(name, f"rows of {listing(map(str, found))} numbers", f"shape {list(feature.shape)}")
            values = column.flatten()
        elif size != 1:
            raise self._differs(name, "one number a row", f"shape {list(feature.shape)}")
        if not KINDS[np.dtype(feature.dtype).kind](values.type):
            raise self._differs(name, str(values.type), f"dtype {feature.dtype}")
        numbers = values.to_numpy(zero_copy_only=False)
        return numbers.reshape(-1, size) if feature.sample_shape else numbers.reshape(-1)

    def texts(self, name: str) -> list[str]:
        """Of a column of texts."""
        column = self._column(name)
        column = column.flatten() if pa.types.is_nested(column.type) else column
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            raise self._differs(name, str(column.type), f"dtype {STRING}")
        return column.to_pylist()

    def pictures(self, name: str) -> Iterator[bytes]:
        """Encoded, one after another; not all of them are in memory at once."""
        self.require(name)
        row, stop = 0, self.start + self.place.length
        with reading(self.place.data):
            for batch in self.file.iter_batches(PICTURES_AT_ONCE, row_groups=self.groups, columns=[name]):
                column = batch.column(batch.schema.get_field_index(name))
                first, last = max(self.start - row, 0), min(stop - row, len(batch))
                for picture in column[first:last].to_pylist() if first < last else ():
                    yield picture_bytes(self.info, self.where, name, picture)
                row += len(batch)
                if row >= stop:
                    return

    def require(self, name: str) -> None:
        """Raise PositronicError when the file has no such column."""
        there = self.file.schema_arrow.names
        if name not in there:
            raise PositronicError(
                f"{self.place.data}: no column '{name}', which {self.info.path} lists.{did_you_mean(name, there)} "
                f"Present: {listing(there)}."
            )

    def _column(self, name: str) -> pa.Array:
        self.require(name)
        with reading(self.place.data):
            column = read_column(self.place.data, self.groups, name)
            found = column.slice(self.start, self.place.length).combine_chunks()
        if found.null_count:
            raise PositronicError(f"{self.where}, '{name}': {found.null_count} rows without a value.")
        return found

    @property
    def first(self) -> int:
        """The number of its first row in the file."""
        return sum(self.file.metadata.row_group(group).num_rows for group in range(self.groups[0])) + self.start

    def _differs(self, name: str, found: str, expected: str) -> PositronicError:
        return differs(self.info, self.where, name, found, expected)


def differs(info: Info, where: str, name: str, found: str, expected: str) -> PositronicError:
    """What is said of a column that is not what ``info.json`` says."""
    return PositronicError(f"{where}, '{name}': {found}; {info.path} says {expected}.")


def picture_bytes(info: Info, where: str, name: str, picture: Any) -> bytes:
    """An encoded picture of column ``name``, as its row holds it or names its file."""
    if not isinstance(picture, dict) or not (picture.get("bytes") or picture.get("path")):
        raise differs(info, where, name, "no picture", f"dtype {PICTURE}")
    if picture.get("bytes"):
        return picture["bytes"]
    file = info.root / picture["path"]
    with reading(file):
        return file.read_bytes()


@contextmanager
def open_rows(info: Info, place: Place) -> Iterator[Rows]:
    """The rows of the episode. Raises PositronicError when there are more or fewer than said, when they are not in
    order, for other tasks than said, and for stamps of another rate."""
    with reading(place.data):
        file = pq.ParquetFile(place.data)
    with file:
        yield _found(info, place, file)


def _found(info: Info, place: Place, file: pq.ParquetFile) -> Rows:
    if place.length < 1:
        raise PositronicError(f"{place.data}, episode {place.index}: the list of episodes says {place.length} rows.")
    groups = _groups(file, place.index)
    for name in NUMBERING:
        Rows(info, place, file, groups, 0).require(name)
    with reading(place.data):
        columns = {name: read_column(place.data, groups, name).to_numpy() for name in NUMBERING}
    mine = np.flatnonzero(columns[EPISODE_INDEX] == place.index)
    start = int(mine[0]) if len(mine) else 0
    rows = Rows(info, place, file, groups, start)
    if len(mine) != place.length:
        raise PositronicError(f"{rows.where}: {len(mine)} rows; the list of episodes says {place.length}.")
    if not np.array_equal(columns[FRAME_INDEX][mine], np.arange(place.length)) or (np.diff(mine) != 1).any():
        raise PositronicError(f"{rows.where}: {FRAME_INDEX} does not count its rows from 0 on.")
    _require_rate(rows, columns[TIMESTAMP][mine])
    found, told = {*columns[TASK_INDEX][mine].tolist()}, {*place.tasks.values()}
    if not found <= told:
        raise PositronicError(f"{rows.where}: {TASK_INDEX} {sorted(found)}; the list of episodes says {sorted(told)}.")
    return rows


def read_column(path: Path, groups: Sequence[int], name: str) -> pa.ChunkedArray:
    """A column of some row groups. The last ones are kept, as episodes of one row group come one after another."""
    return _column(path, path.stat().st_mtime_ns, tuple(groups), name)


@lru_cache(maxsize=KEPT_COLUMNS)
def _column(path: Path, changed_ns: int, groups: tuple[int, ...], name: str) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        return file.read_row_groups(list(groups), columns=[name])[name]


def _groups(file: pq.ParquetFile, index: int) -> list[int]:
    """Row groups that may hold the episode."""
    at = next((at for at in range(file.metadata.num_columns) if file.schema.column(at).path == EPISODE_INDEX), None)
    if at is None:
        return list(range(file.metadata.num_row_groups))
    ends = [file.metadata.row_group(group).column(at).statistics for group in range(file.metadata.num_row_groups)]
    return [
        group for group, end in enumerate(ends) if end is None or not end.has_min_max or end.min <= index <= end.max
    ]


def _require_rate(rows: Rows, stamps: NDArray[Any]) -> None:
    fps = rows.info.fps
    expected = np.arange(len(stamps)) / fps
    wrong = np.flatnonzero(~(np.abs(stamps.astype(float) - expected) <= TOLERANCE_SEC))
    if len(wrong):
        at = int(wrong[0])
        raise PositronicError(
            f"{rows.where}: the {TIMESTAMP} of frame {at} is {stamps[at]:g} s; {rows.info.path} says fps {fps:g}, which"
            f" makes it {expected[at]:g} s."
        )


def _lengths(column: pa.Array) -> Any:
    """Of each row's list."""
    if pa.types.is_fixed_size_list(column.type):
        return [column.type.list_size]
    return column.value_lengths()
