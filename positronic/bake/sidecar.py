"""Where each baked episode came from, and what its frames were made of: parquet files beside LeRobot's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from positronic import keys
from positronic.bake.episode import BakedEpisode
from positronic.bake.frames import LEVELS, Histogram
from positronic.bake.manifest import episodes_digest

HISTOGRAMS_FILE = "meta/positronic_histograms.parquet"
BINS = 3 * LEVELS
EPISODES_PER_GROUP = 100


class Sidecar:
    """Collects sources; writes histograms as they come, a row per episode, 3 x 256 numbers per camera."""

    def __init__(self, root: Path, cameras: Sequence[str]) -> None:
        self._root = root
        self._sources: list[tuple[str, str, int]] = []
        self._waiting: dict[str, list[Histogram]] = {name: [] for name in cameras}
        self._schema = pa.schema([(name, pa.list_(pa.int64(), BINS)) for name in cameras])
        path = root / HISTOGRAMS_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._histograms = pq.ParquetWriter(path, self._schema)

    def add(self, episode: BakedEpisode) -> None:
        """Append an episode."""
        self._sources.append((*episode.source, episode.length))
        for name, waiting in self._waiting.items():
            waiting.append(episode.histograms[name])
        if len(self._sources) % EPISODES_PER_GROUP == 0:
            self._write_histograms()

    def finish(self) -> str:
        """Write everything. Returns the digest of the episodes."""
        self._write_histograms()
        self.close()
        uids, fingerprints, lengths = (list(column) for column in zip(*self._sources, strict=True))
        table = {"episode_index": list(range(len(uids))), "uid": uids, "fingerprint": fingerprints, "length": lengths}
        pq.write_table(pa.table(table), self._root / keys.EPISODES_SIDECAR)
        return episodes_digest(self._sources)

    def close(self) -> None:
        """Close the files; may be called again."""
        self._histograms.close()

    def _write_histograms(self) -> None:
        flat = [np.array(waiting, np.int64).reshape(-1) for waiting in self._waiting.values()]
        arrays = [pa.FixedSizeListArray.from_arrays(pa.array(numbers), BINS) for numbers in flat]
        self._histograms.write_table(pa.table(arrays, schema=self._schema))
        for waiting in self._waiting.values():
            waiting.clear()
