"""Time semantics of every signal: a step function of integer nanoseconds.

The value at t is the last sample at or before t. Before the first sample there is no value; after the last one its
value stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError

NS_PER_SEC = 10**9
Times = NDArray[np.int64]
"""int64 (N,), nanoseconds, non-decreasing; of equal stamps the last sample counts."""


def as_times(times_ns: Any) -> Times:
    """Query times as int64; empty stays empty. Raises TypeError for floats: above 2**53 ns they are not exact."""
    times = np.asarray(times_ns)
    if times.size and times.dtype.kind not in "iu":
        raise TypeError(f"times are integer nanoseconds, got dtype {times.dtype}")
    return times.astype(np.int64)


def index_at(stamps_ns: Times, times_ns: Any, name: str) -> np.ndarray:
    """Index of the last sample at or before each time, int64, same shape as ``times_ns``.

    Raises PositronicError when a time lies before the first sample of the signal ``name``.
    """
    times = as_times(times_ns)
    indices = np.searchsorted(stamps_ns, times, side="right").astype(np.int64) - 1
    if indices.size and indices.min() < 0:
        first = f"its first sample is at {stamps_ns[0]} ns" if len(stamps_ns) else "it has no samples"
        raise PositronicError(
            f"Signal '{name}' has no value yet at {times.min()} ns: {first}. "
            "Ask from Episode.start_of(signals) on, where all of them have started."
        )
    return indices


def window(stamps_ns: Times, start_ns: int, stop_ns: int) -> tuple[Times, np.ndarray]:
    """Stamps and indices of the samples in ``[start, stop)``.

    If ``start`` falls between two samples, the earlier one comes first and is stamped ``start``. A window that begins
    before the first sample begins with that sample.
    """
    low = int(np.searchsorted(stamps_ns, start_ns, side="right")) - 1  # of equal stamps the last, as in ``index_at``
    high = int(np.searchsorted(stamps_ns, stop_ns, side="left"))
    if low < 0 or stop_ns <= start_ns:
        low = int(np.searchsorted(stamps_ns, start_ns, side="left"))
    indices = np.arange(low, max(low, high), dtype=np.int64)
    return np.maximum(stamps_ns[indices], start_ns), indices


def goes_back_at(stamps_ns: Times) -> int | None:
    """Index of the first stamp that is earlier than the one before it, else None."""
    backward = np.flatnonzero(np.diff(stamps_ns) < 0)
    return int(backward[0]) + 1 if len(backward) else None
