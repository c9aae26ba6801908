"""Numbers of one signal, held in memory until the episode ends.

Writing a group of rows takes as long as several steps of a control loop. As bytes, an hour of seven joints at 100 Hz is
23 MB.
"""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from positronic.raw.vector_writer import VectorWriter


class HeldNumbers:
    """Appends arrays of one dtype and shape, () or (D,); ``close`` writes them."""

    def __init__(self, name: str, path: Path) -> None:
        self._writer = VectorWriter(name, path)
        self._times, self._rows = array("q"), bytearray()
        self._first: np.ndarray | None = None

    def append(self, value: np.ndarray, time_ns: int) -> None:
        """Add a sample."""
        self._first = value if self._first is None else self._first
        self._times.append(time_ns)
        self._rows += value.tobytes()

    def close(self) -> None:
        """Write the file."""
        if self._first is not None:
            rows = np.frombuffer(self._rows, self._first.dtype).reshape(-1, *self._first.shape)
            for row, time_ns in zip(rows, self._times, strict=True):
                self._writer.append(row, time_ns)
        self._writer.close()
        self._first = None
