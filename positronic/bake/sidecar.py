"""Where each baked episode came from, and what its frames were made of: parquet files beside LeRobot's own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from positronic import keys
from positronic.bake.frames import LEVELS, Histogram
from positronic.bake.ledger import Ledger
from positronic.bake.manifest import episodes_digest

HISTOGRAMS_FILE = "meta/positronic_histograms.parquet"
BINS = 3 * LEVELS
EPISODES_PER_GROUP = 100


class Sidecar:
    """Collects sources; writes histograms as they come, a row per episode, 3 x 256 numbers per camera.

    ``fingerprints``: of every episode, with its index.
    """

    def __init__(self, root: Path, cameras: list[str]) -> None:
        self.fingerprints: dict[str, int] = {}
        self._root = root
        self._rows: list[dict[str, str | int]] = []
        self._waiting: dict[str, list[Histogram]] = {name: [] for name in cameras}
        self._schema = pa.schema([(name, pa.list_(pa.int64(), BINS)) for name in cameras])
        path = root / HISTOGRAMS_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._histograms = pq.ParquetWriter(path, self._schema)

    def add(self, uid: str, fingerprint: str, length: int, task: str, histograms: dict[str, Histogram]) -> None:
        """Append an episode."""
        index = len(self._rows)
        row = {"episode_index": index, "uid": uid, "fingerprint": fingerprint, "length": length, "task": task}
        self._rows.append(row)
        self.fingerprints.setdefault(fingerprint, index)
        for name, waiting in self._waiting.items():
            waiting.append(histograms[name])
        if len(self._rows) % EPISODES_PER_GROUP == 0:
            self._write_histograms()

    def go_on(self, root: Path, ledger: Ledger) -> None:
        """Begin with the episodes of the dataset in ``root``, and count them in ``ledger``."""
        for row, histograms in read_episodes(root):
            ledger.count(row["task"], row["length"], histograms)
            self.add(row["uid"], row["fingerprint"], row["length"], row["task"], histograms)

    def finish(self) -> str:
        """Write everything. Returns the digest of the episodes."""
        self._write_histograms()
        self.close()
        pq.write_table(pa.Table.from_pylist(self._rows), self._root / keys.EPISODES_SIDECAR)
        return episodes_digest((row["uid"], row["fingerprint"], row["length"]) for row in self._rows)

    def close(self) -> None:
        """Close the files; may be called again."""
        self._histograms.close()

    def _write_histograms(self) -> None:
        flat = [np.array(waiting, np.int64).reshape(-1) for waiting in self._waiting.values()]
        arrays = [pa.FixedSizeListArray.from_arrays(pa.array(numbers), BINS) for numbers in flat]
        self._histograms.write_table(pa.table(arrays, schema=self._schema))
        for waiting in self._waiting.values():
            waiting.clear()


def read_episodes(root: Path) -> Iterator[tuple[dict[str, Any], dict[str, Histogram]]]:
    """Each episode's row (``uid``, ``fingerprint``, ``length``, ``task``, ...) and histograms, by camera.

    Raises ValueError when there are more of the one than of the other.
    """
    rows = pq.read_table(root / keys.EPISODES_SIDECAR).to_pylist()
    with pq.ParquetFile(root / HISTOGRAMS_FILE) as file:
        without_cameras = repeat({}, len(rows))  # a table without columns has no rows either
        yield from zip(rows, _histograms(file) if file.schema_arrow.names else without_cameras, strict=True)


def _histograms(file: pq.ParquetFile) -> Iterator[dict[str, Histogram]]:
    for batch in file.iter_batches(EPISODES_PER_GROUP):
        counts = {name: batch.column(name).flatten().to_numpy().reshape(-1, 3, LEVELS) for name in batch.schema.names}
        yield from ({name: each[i] for name, each in counts.items()} for i in range(len(batch)))
