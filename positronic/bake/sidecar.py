"""Where each baked episode came from, and what its frames were made of: parquet files beside LeRobot's own."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from positronic import keys
from positronic.bake.episode import BakedEpisode
from positronic.bake.manifest import episodes_digest

HISTOGRAMS_FILE = "meta/positronic_histograms.parquet"
BINS = 3 * 256


class Sidecar:
    """Collects sources, and writes histograms (int64 (3, 256) per camera) as they come."""

    def __init__(self, root: Path, cameras: list[str]) -> None:
        self._root, self._cameras = root, cameras
        self._rows: list[tuple[str, str, int]] = []
        self._schema = pa.schema([(name, pa.list_(pa.int64(), BINS)) for name in cameras])
        (root / HISTOGRAMS_FILE).parent.mkdir(parents=True, exist_ok=True)
        self._histograms = pq.ParquetWriter(root / HISTOGRAMS_FILE, self._schema)

    def add(self, episode: BakedEpisode) -> None:
        """Append an episode."""
        self._rows.append((*episode.source, episode.length))
        columns = [pa.FixedSizeListArray.from_arrays(episode.histograms[n].reshape(-1), BINS) for n in self._cameras]
        self._histograms.write_table(pa.table(columns, schema=self._schema))

    def finish(self) -> str:
        """Write everything. Returns the digest of the episodes."""
        self.close()
        uids, fingerprints, lengths = zip(*self._rows, strict=True)
        table = {"episode_index": range(len(uids)), "uid": uids, "fingerprint": fingerprints, "length": lengths}
        pq.write_table(
            pa.table({name: list(values) for name, values in table.items()}), self._root / keys.EPISODES_SIDECAR
        )
        return episodes_digest(self._rows)

    def close(self) -> None:
        """Close the files; may be called again."""
        self._histograms.close()
