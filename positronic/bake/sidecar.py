"""Where each baked episode came from, and what its frames were made of: parquet files beside LeRobot's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic import keys
from positronic.bake.frames import LEVELS, Histogram
from positronic.bake.ledger import Ledger
from positronic.bake.manifest import Manifest, episodes_digest
from positronic.bake.reading import AGAIN, episode_error, integers, read_columns, reading
from positronic.errors import PositronicError

HISTOGRAMS_FILE = "meta/positronic_histograms.parquet"
BINS = 3 * LEVELS
EPISODES_PER_GROUP = 100


class Sidecar:
    """Collects sources, and writes histograms as they come: one row per episode, 3 x 256 numbers per camera.

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
        if len(self._rows) % EPISODES_PER_GROUP == 0:  # they are most of what a large bake would hold in memory
            self._write_histograms()

    def go_on(self, root: Path, sources: Sources, ledger: Ledger) -> None:
        """Begin with the episodes of the dataset in ``root``, and count them in ``ledger``."""
        for uid, fingerprint, length, task, histograms in read_episodes(root, sources, ledger):
            ledger.count(uid, task, length, histograms)
            self.add(uid, fingerprint, length, task, histograms)

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


class Sources(NamedTuple):
    """Of E episodes in order. ``tasks``: None in a dataset whose sidecar, of an older version, says nothing of them."""

    uids: list[str]
    fingerprints: list[str]
    lengths: NDArray[np.int64]
    tasks: list[str] | None


def read_sources(root: Path, manifest: Manifest) -> Sources:
    """Where each episode came from. Raises PositronicError if these are not the episodes of the manifest."""
    path = root / keys.EPISODES_SIDECAR
    table = read_columns(path, ["uid", "fingerprint", "length"])
    with reading(path):
        tasks = read_columns(path, ["task"])["task"].to_pylist() if "task" in pq.read_schema(path).names else None
    uids, fingerprints = (table[name].to_pylist() for name in ("uid", "fingerprint"))
    lengths = integers(path, table, "length")
    counted = len(lengths), int(lengths.sum())
    if counted != (manifest.episodes, manifest.frames):
        raise PositronicError(
            f"{path} has {counted[0]} episodes of {counted[1]} frames, {keys.MANIFEST_FILE} {manifest.episodes} of "
            f"{manifest.frames}. {AGAIN}"
        )
    digest = episodes_digest(zip(uids, fingerprints, lengths.tolist(), strict=True))
    if digest != manifest.digest:
        raise PositronicError(f"{path} lists other episodes than {keys.MANIFEST_FILE} was written for. {AGAIN}")
    return Sources(uids, fingerprints, lengths, tasks)


def read_episodes(
    root: Path, sources: Sources, ledger: Ledger
) -> Iterator[tuple[str, str, int, str, dict[str, Histogram]]]:
    """Each episode's uid, fingerprint, length, task and histograms by camera. ``ledger`` knows the cameras.

    Raises PositronicError if tasks are missing, or if the histograms do not count all pixels of these episodes.
    """
    if sources.tasks is None:
        raise PositronicError(f"{root / keys.EPISODES_SIDECAR} is of an older version: it has no 'task'. {AGAIN}")
    lengths = sources.lengths.tolist()
    pixels = {name: math.prod(ledger.features[name]["shape"][:2]) for name in ledger.cameras}
    histograms = _histograms(root / HISTOGRAMS_FILE, lengths, pixels) if pixels else ({} for _ in lengths)
    yield from zip(sources.uids, sources.fingerprints, lengths, sources.tasks, histograms, strict=True)


def _histograms(path: Path, lengths: Sequence[int], pixels: Mapping[str, int]) -> Iterator[dict[str, Histogram]]:
    """One row per episode of these ``lengths``; each camera has ``pixels`` in a frame."""
    k = -1
    with reading(path), pq.ParquetFile(path) as file:
        if file.metadata.num_rows != len(lengths):
            raise ValueError(f"{file.metadata.num_rows} rows, expected one for each of {len(lengths)} episodes")
        for batch in file.iter_batches(EPISODES_PER_GROUP, columns=list(pixels)):
            found = {name: batch.column(name).flatten().to_numpy().reshape(-1, 3, LEVELS) for name in pixels}
            for i in range(len(batch)):
                k += 1
                wrong = [n for n in pixels if (found[n][i].sum(axis=1) != lengths[k] * pixels[n]).any()]
                if wrong:
                    raise episode_error(path, k, f"'{wrong[0]}' counts other pixels than those of {lengths[k]} frames")
                yield {name: counts[i] for name, counts in found.items()}
