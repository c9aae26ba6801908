"""Columns of the parquet files, in both published versions of the format.

Version 1 has one clock, ``timestamp`` (``ts_ns`` in a video's index) and may carry further ones, ignored here.
Version 2 says so in the schema's metadata and has one ``ts.<timeline>`` column per clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from positronic.raw.faults import BadEpisode
from positronic.raw.timeline import Times, goes_back_at

TIME_V1 = "timestamp"
INDEX_TIME_V1 = "ts_ns"
VALUE = "value"
VERSION_KEY = b"positronic.signal_version"
VERSION_2 = b"2"
TIMELINE_PREFIX = "ts."
PREFERRED_TIMELINES = ("ts.harness.world", "ts.received.world")


def read_table(path: Path) -> pa.Table:
    """The whole file. Raises BadEpisode when it is missing or is not parquet."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise BadEpisode(path.parent, f"{path.name} cannot be read ({error}).") from error


def read_times(table: pa.Table, path: Path, v1_column: str) -> Times:
    """int64 (N,) stamps of the file's clock. Raises BadEpisode when they are missing, null or go back."""
    column = _time_column(table, path, v1_column)
    if column is None:
        return np.zeros(0, np.int64)
    stamps = table.column(column)
    if stamps.null_count or not pa.types.is_integer(stamps.type):
        raise BadEpisode(path.parent, f"{path.name}: column '{column}' is not int64 without nulls ({stamps.type}).")
    times = _to_numpy(stamps.combine_chunks()).astype(np.int64)
    if (row := goes_back_at(times)) is not None:
        raise BadEpisode(
            path.parent, f"{path.name}: time goes back at row {row}, from {times[row - 1]} to {times[row]} ns."
        )
    return times


def _time_column(table: pa.Table, path: Path, v1_column: str) -> str | None:
    """The clock to read; None for an empty file of version 2, which has no clock."""
    version = (table.schema.metadata or {}).get(VERSION_KEY)
    if version not in (None, VERSION_2):
        raise BadEpisode(path.parent, f"{path.name} has signal version {version.decode()}; this reader knows 1 and 2.")
    column = v1_column if version is None else _timeline(table.column_names)
    if column in table.column_names:
        return column
    if version == VERSION_2 and table.num_rows == 0:
        return None
    expected = v1_column if version is None else f"{TIMELINE_PREFIX}*"
    raise BadEpisode(path.parent, f"{path.name} has no time column '{expected}', only {table.column_names}.")


def _timeline(names: Sequence[str]) -> str | None:
    timelines = sorted(name for name in names if name.startswith(TIMELINE_PREFIX))
    preferred = [name for name in PREFERRED_TIMELINES if name in timelines]
    return next(iter(preferred + timelines), None)


def read_values(table: pa.Table, path: Path) -> np.ndarray:
    """(N,) scalars or (N, D) vectors, in the recorded dtype. Raises BadEpisode on nulls and on ragged vectors."""
    if VALUE not in table.column_names:
        raise BadEpisode(path.parent, f"{path.name} has no column '{VALUE}', only {table.column_names}.")
    values = table.column(VALUE).combine_chunks()
    if values.null_count:
        raise BadEpisode(path.parent, f"{path.name}: {values.null_count} of {len(values)} values are null.")
    if _is_vector(values.type):
        return _stack(values, path)
    if pa.types.is_nested(values.type):
        raise BadEpisode(path.parent, f"{path.name} holds {values.type}; expected scalars or lists of numbers.")
    return _to_numpy(values)


def _is_vector(kind: pa.DataType) -> bool:
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and not pa.types.is_nested(kind.value_type)


def _stack(values: pa.Array, path: Path) -> np.ndarray:
    offsets = _to_numpy(values.offsets)
    lengths = np.diff(offsets)
    flat = values.values[offsets[0] : offsets[-1]]
    if len(lengths) and (lengths != lengths[0]).any():
        row = int(np.flatnonzero(lengths != lengths[0])[0])
        raise BadEpisode(
            path.parent, f"{path.name}: vectors have length {lengths[0]}, but row {row} has length {lengths[row]}."
        )
    if flat.null_count:
        raise BadEpisode(path.parent, f"{path.name}: {flat.null_count} elements of vectors are null.")
    return _to_numpy(flat).reshape(len(values), -1 if len(values) else 0)


def _to_numpy(array: pa.Array) -> np.ndarray:
    """Without nulls. pyarrow's own ``to_numpy`` imports pandas where there is one: most of a worker's start."""
    numeric = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    return np.from_dlpack(array) if numeric else array.to_numpy(zero_copy_only=False)
