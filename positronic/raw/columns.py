"""Columns of the parquet files, in both published versions of the format.

Version 1 has one clock, ``timestamp`` (``ts_ns`` in a video's index). It may have further clocks, which are ignored
here. Version 2 is marked in the schema's metadata and has one ``ts.<timeline>`` column per clock.

A flipped bit in a compressed page decodes into other numbers without an error. Pages that carry a check sum (ours do)
are verified. In all files the numbers are compared with the extremes that the footer notes for every row group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

UNREADABLE = (OSError, pa.ArrowException, ValueError, MemoryError)
"""What pyarrow raises about a damaged file. A damaged length asks for more memory than there is (MemoryError)."""


def read_table(path: Path) -> pa.Table:
    """The whole file. Raises BadEpisode when it is missing, is not parquet, or is not what was written."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)  # episodes are read in parallel already
            bounds = dict(_bounds(file.metadata))
    except UNREADABLE as error:
        raise BadEpisode(path.parent, f"{path.name} cannot be read ({error}).") from error
    for column, (low, high) in bounds.items():
        found = _extremes(table, column)
        if found is not None and found != (low, high):
            raise BadEpisode(
                path.parent,
                f"{path.name} is damaged: column '{column}' holds numbers from {found[0]} to {found[1]}, but the file "
                f"was written with {low} to {high}. Copy it again from where it was recorded.",
            )
    return table


def _bounds(metadata: pq.FileMetaData) -> Iterator[tuple[str, tuple[float, float]]]:
    """Name and extremes of the columns whose footer notes them for every row group."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    for i in range(metadata.num_columns if groups else 0):
        noted = [group.column(i).statistics for group in groups]
        if all(each is not None and each.has_min_max for each in noted):
            low, high = min(each.min for each in noted), max(each.max for each in noted)
            yield metadata.schema.column(i).path.split(".list.")[0], (low, high)


def _extremes(table: pa.Table, column: str) -> tuple[float, float] | None:
    """Lowest and highest number; None where there is none, or one that has no order (NaN), and for other types."""
    values = table.column(column).combine_chunks() if table.column_names.count(column) == 1 else None
    if values is None or values.null_count or not len(values):
        return None
    flat = values.flatten() if _is_vector(values.type) else values
    if flat.null_count or not (pa.types.is_signed_integer(flat.type) or flat.type in (pa.float32(), pa.float64())):
        return None
    numbers = _to_numpy(flat)
    low, high = (numbers.min().item(), numbers.max().item()) if len(numbers) else (np.nan, np.nan)
    return None if low != low or high != high else (low, high)


def read_times(table: pa.Table, path: Path, v1_column: str) -> Times:
    """int64 (N,) stamps of the file's clock.

    Raises BadEpisode when stamps are missing or null, when they go back, and when two are equal. In version 2 one clock
    may stand still while another clock of the file runs.
    """
    column = _time_column(table, path, v1_column)
    if column is None:
        return np.zeros(0, np.int64)
    times = _stamps(table, path, column)
    if (row := goes_back_at(times)) is not None:
        raise BadEpisode(
            path.parent, f"{path.name}: time goes back at row {row}, from {times[row - 1]} to {times[row]} ns."
        )
    still = np.flatnonzero(np.diff(times) == 0)
    others = [name for name in table.column_names if name.startswith(TIMELINE_PREFIX) and name != column]
    if len(still) and not any((np.diff(_stamps(table, path, name)) > 0).all() for name in others):
        row = int(still[0])
        raise BadEpisode(
            path.parent,
            f"{path.name}: rows {row} and {row + 1} have the same stamp, {times[row]} ns; stamps are whole "
            "nanoseconds, and each must be later than the one before.",
        )
    return times


def _stamps(table: pa.Table, path: Path, column: str) -> Times:
    stamps = table.column(column)
    if stamps.null_count or not pa.types.is_integer(stamps.type):
        raise BadEpisode(path.parent, f"{path.name}: column '{column}' is not int64 without nulls ({stamps.type}).")
    return _to_numpy(stamps.combine_chunks()).astype(np.int64)


def _time_column(table: pa.Table, path: Path, v1_column: str) -> str | None:
    """The clock to read; None for an empty file of version 2, which has no clock."""
    version = (table.schema.metadata or {}).get(VERSION_KEY)
    if version not in (None, VERSION_2):
        shown = version.decode(errors="replace")
        raise BadEpisode(path.parent, f"{path.name} has signal version {shown}; this reader knows 1 and 2.")
    column = v1_column if version is None else _timeline(table.column_names)
    if table.column_names.count(column) == 1:
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
    """(N,) scalars or (N, D) vectors, in the recorded dtype; text is (N,) of objects.

    Raises BadEpisode on nulls, ragged vectors, and what is neither number nor truth value nor text.
    """
    if table.column_names.count(VALUE) != 1:
        raise BadEpisode(path.parent, f"{path.name} has no column '{VALUE}', only {table.column_names}.")
    values = table.column(VALUE).combine_chunks()
    if values.null_count:
        raise BadEpisode(path.parent, f"{path.name}: {values.null_count} of {len(values)} values are null.")
    if _is_vector(values.type) and _is_number(values.type.value_type):
        return _stack(values, path)
    if _is_number(values.type) or pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return _to_numpy(values)
    raise BadEpisode(path.parent, f"{path.name} holds {values.type}; expected scalars or lists of numbers, or text.")


def _is_vector(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


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
    return _to_numpy(flat).reshape(len(values), int(lengths[0]) if len(values) else 0)


def _to_numpy(array: pa.Array) -> np.ndarray:
    """Without nulls. pyarrow's own ``to_numpy`` imports pandas if it is installed, most of a worker's start."""
    numeric = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    return np.from_dlpack(array) if numeric else array.to_numpy(zero_copy_only=False)
