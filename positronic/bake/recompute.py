"""The statistics of a baked dataset once more: from its own files, by what the bake computes them with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from positronic.bake.columns import data_files, spooled
from positronic.bake.config import VideoConfig
from positronic.bake.features import lerobot_features
from positronic.bake.ledger import Ledger
from positronic.bake.manifest import Manifest
from positronic.bake.sidecar import read_episodes
from positronic.bake.tables import stats_text
from positronic.errors import PositronicError

AGAIN = "Convert it again."


def stats_json(root: Path, manifest: Manifest) -> str:
    """The text of ``meta/stats.json`` for the dataset in ``root``: vectors from the data files, images from the
    histograms, LeRobot's own columns from the lengths and tasks of the episodes.

    Raises PositronicError when a file is missing, unreadable or holds other episodes than the manifest says, and for
    a number that is not finite.
    """
    ledger = read_ledger(root, manifest)
    with readable(root), spooled(root, ledger.vectors) as spool:
        for name in ledger.vectors:
            if not all(np.isfinite(block).all() for block in spool.blocks(name)):
                raise PositronicError(
                    f"{root}: column '{name}' holds numbers that are not finite; no statistics were written. "
                    f"See where with report=true. {AGAIN}"
                )
        return stats_text(ledger.stats(spool))


def read_ledger(root: Path, manifest: Manifest) -> Ledger:
    """The episodes of the dataset in ``root``. Raises PositronicError when its files do not hold all of them."""
    recipe = manifest.load_recipe()
    ledger = Ledger(lerobot_features(recipe.modality, manifest.fps, VideoConfig(**manifest.video)), manifest.fps)
    with readable(root):
        for row, histograms in read_episodes(root):
            ledger.count(row["task"], row["length"], histograms)
        require_whole(root, manifest, ledger)
    return ledger


def require_whole(root: Path, manifest: Manifest, ledger: Ledger) -> None:
    """Raise PositronicError unless the dataset in ``root``, counted in ``ledger``, has what the manifest says."""
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in data_files(root))
    counted = len(ledger.lengths), ledger.frames, rows
    if counted != (manifest.episodes, manifest.frames, manifest.frames):
        raise PositronicError(
            f"{root}: expected {manifest.frames} frames of {manifest.episodes} episodes, found {rows} frames in data/ "
            f"and {ledger.frames} of {len(ledger.lengths)} episodes in meta/. {AGAIN}"
        )


@contextmanager
def readable(root: Path) -> Iterator[None]:
    """What goes wrong while the files in ``root`` are read, as PositronicError."""
    try:
        yield
    except KeyError as error:
        raise PositronicError(f"{root} is damaged or of an older version: it has no {error}. {AGAIN}") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise PositronicError(f"{root} is not a whole baked dataset: {error}. {AGAIN}") from error
