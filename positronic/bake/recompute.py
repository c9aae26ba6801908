"""The statistics of a baked dataset, computed again from its own files by the code that the bake uses."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from positronic.bake.columns import spooled
from positronic.bake.config import VideoConfig
from positronic.bake.features import lerobot_features
from positronic.bake.ledger import Ledger
from positronic.bake.manifest import Manifest
from positronic.bake.reading import AGAIN
from positronic.bake.sidecar import read_episodes, read_sources
from positronic.bake.tables import stats_text
from positronic.errors import PositronicError


def stats_json(root: Path, manifest: Manifest) -> str:
    """The text of ``meta/stats.json`` for the dataset in ``root``, without the episodes that are held out: vectors from
    the data files, images from the histograms, LeRobot's own columns from the lengths and tasks of the episodes.

    Raises PositronicError when a file cannot be read, and for a number that is not finite.
    """
    ledger = read_ledger(root, manifest, manifest.held_out_episodes)
    with spooled(root, ledger.vectors, ledger.held_out) as spool:
        for name in ledger.vectors:
            if not all(np.isfinite(block).all() for block in spool.blocks(name)):
                raise PositronicError(
                    f"{root}: column '{name}' holds numbers that are not finite; no statistics were written. "
                    f"See where with report=true. {AGAIN}"
                )
        return stats_text(ledger.stats(spool))


def read_ledger(root: Path, manifest: Manifest, leave_out: Collection[int] = ()) -> Ledger:
    """The episodes of the dataset in ``root``, by its sidecar; those of ``leave_out`` are in no statistics."""
    recipe = manifest.load_recipe()
    described = lerobot_features(recipe.modality, manifest.fps, VideoConfig(**manifest.video))
    without = frozenset(leave_out)
    ledger = Ledger(described, manifest.fps, lambda index, uid: index in without)
    for uid, _, length, task, histograms in read_episodes(root, read_sources(root, manifest), ledger):
        ledger.count(uid, task, length, histograms)
    return ledger
