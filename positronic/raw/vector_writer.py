"""Writes one scalar or vector signal as parquet, version 1 of the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from positronic.errors import PositronicError
from positronic.raw.columns import TIME_V1, VALUE

ROWS_PER_GROUP = 10_000
NUMERIC_KINDS = "biuf"


class VectorWriter:
    """Appends samples; all of one shape and dtype, as the first. Rows go to disk in groups of 10,000."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._times: list[int] = []
        self._values: list[Any] = []
        self._kind: tuple[Any, ...] | None = None
        self._writer: pq.ParquetWriter | None = None

    def append(self, value: Any, time_ns: int) -> None:
        """Add a scalar (bool, int, float, str) or a vector (D,). Raises PositronicError for other or changing kinds."""
        sample = value if isinstance(value, str) else self._array(value)
        kind = _kind(sample)
        self._kind = self._kind or self._accepted(kind)
        if kind != self._kind:
            raise PositronicError(
                f"Signal '{self.name}' holds {_text(self._kind)}, but at {time_ns} ns it got {_text(kind)}."
            )
        self._times.append(time_ns)
        self._values.append(sample)
        if len(self._times) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        if self._times:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _array(self, value: Any) -> np.ndarray:
        """A copy, as the caller may reuse its buffer."""
        try:
            return np.array(value)
        except ValueError as error:
            raise self._refused("a ragged list") from error

    def _accepted(self, kind: tuple[Any, ...]) -> tuple[Any, ...]:
        dtype, shape = kind
        if len(shape) > 1 or (dtype is not str and dtype.kind not in NUMERIC_KINDS):
            raise self._refused(_text(kind))
        return kind

    def _refused(self, what: str) -> PositronicError:
        expected = "a scalar, a vector, or an image (uint8, height x width x 3)"
        return PositronicError(f"Signal '{self.name}' cannot hold {what}: expected {expected}.")

    def _flush(self) -> None:
        table = pa.table({TIME_V1: pa.array(self._times, pa.int64()), VALUE: self._column()})
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema, write_page_checksum=True)
        self._writer.write_table(table)
        self._times, self._values = [], []

    def _column(self) -> pa.Array:
        dtype, shape = self._kind
        if dtype is str:
            return pa.array(self._values, pa.string())
        flat = pa.array(np.stack(self._values).ravel())
        if not shape:
            return flat
        offsets = np.arange(len(self._values) + 1, dtype=np.int32) * shape[0]
        return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _kind(sample: Any) -> tuple[Any, ...]:
    return (str, ()) if isinstance(sample, str) else (sample.dtype, sample.shape)


def _text(kind: tuple[Any, ...]) -> str:
    dtype, shape = kind
    name = "text" if dtype is str else str(dtype)
    return f"{name} of shape {shape}" if shape else f"{name} scalars"
