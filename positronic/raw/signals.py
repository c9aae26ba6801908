"""Scalar and vector signals."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from positronic.raw import columns
from positronic.raw.faults import BadEpisode
from positronic.raw.plausible import require_no_leaps
from positronic.raw.timeline import Times, index_at, window


class VectorSignal:
    """A scalar or vector signal; the file is read once, at first use.

    ``inverted`` turns x into 1 - x, for grippers recorded with 1 = open.
    """

    def __init__(self, name: str, path: Path, inverted: bool = False) -> None:
        self.name = name
        self.path = path
        self.inverted = inverted

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold this signal."""
        return (self.path,)

    @property
    def times_ns(self) -> Times:
        """int64 (N,), non-decreasing. Raises BadEpisode when the file cannot be read or time goes back."""
        return self._data[0]

    @property
    def values(self) -> np.ndarray:
        """(N,) or (N, D) in the recorded dtype. Raises BadEpisode as ``times_ns`` does, and on ragged vectors."""
        return self._data[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: () or (D,)."""
        return self.values.shape[1:]

    def at(self, times_ns: Any) -> np.ndarray:
        """Values at or before ``times_ns`` (T,): (T,) or (T, D); of one time () or (D,).

        Raises PositronicError before the first sample.
        """
        return self.values[index_at(self.times_ns, times_ns, self.name)]

    def window(self, start_ns: int, stop_ns: int) -> tuple[Times, np.ndarray]:
        """Stamps and values in ``[start, stop)``. The value current at ``start`` comes first, stamped ``start``."""
        times, indices = window(self.times_ns, start_ns, stop_ns)
        return times, self.values[indices]

    def check(self) -> None:
        """Read everything. Raises BadEpisode, also on NaN, infinities, and what no robot does (``raw.plausible``)."""
        values = self.values
        finite = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            reason = f"{self.path.name}: row {row} of {len(values)} is not finite: {values[row].tolist()}."
            raise BadEpisode(self.path.parent, reason)
        require_no_leaps(self.name, self.times_ns, values, self.path)

    @cached_property
    def _data(self) -> tuple[Times, np.ndarray]:
        table = columns.read_table(self.path)
        times = columns.read_times(table, self.path, columns.TIME_V1)
        values = columns.read_values(table, self.path)
        if self.inverted and values.dtype.kind == "O":
            raise BadEpisode(self.path.parent, f"{self.path.name} holds text, but a gripper's numbers were expected.")
        return times, 1 - values if self.inverted else values
