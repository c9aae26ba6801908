"""What a baked dataset's numbers look like, and which of them look wrong.

Limits are those of the codec's parts: ``codecs/limits.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic import geometry
from positronic.bake import statistics
from positronic.bake.columns import Spool, spooled
from positronic.bake.features import CHANNELS, dimension_names, element_names
from positronic.bake.findings import Breaches, Finding, breach, near_constant
from positronic.bake.frames import LEVELS, Histogram
from positronic.bake.manifest import Manifest
from positronic.bake.recompute import read_ledger
from positronic.bake.report import read_turned
from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.features import VectorFeature
from positronic.codecs.limits import Limit
from positronic.codecs.modality import Column

Floats = NDArray[np.floating]

FINITE = Limit(slice(0, None), 1, 1, lambda rows: np.isfinite(rows).astype(float), "not a finite number")
FLIP_COSINE = np.cos(np.deg2rad(15))  # of half the angle between neighbours: a robot turns less within a frame
BINS = 60  # of a dimension's histogram
SHOWN = ("min", "q01", "mean", "q99", "max", "std")


class Dimension(NamedTuple):
    """One number of a column, or one channel of a camera, in 0..1.

    ``stats``: SHOWN; empty when no value is finite. ``counts``: how many values lie between neighbouring ``edges``.
    """

    column: str
    name: str
    is_image: bool
    stats: dict[str, float]
    edges: Floats
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Inspection:
    """Everything about one dataset. ``turned``: pose signal -> samples that the bake turned to one sign."""

    manifest: Manifest
    dimensions: list[Dimension]
    findings: list[Finding]
    turned: dict[str, int]

    def flagged(self, dimension: Dimension) -> bool:
        """Whether a finding is about this dimension."""
        return any(dimension.column == f.column and dimension.name in f.names for f in self.findings)


def is_needed(name: str) -> bool:
    """Whether ``inspect`` reads the dataset's file ``name``: all but the videos."""
    return not name.startswith("videos/")


def inspect(root: Path, manifest: Manifest) -> Inspection:
    """Look at every number of the dataset in ``root``; at its frames by their histograms.

    Raises PositronicError when a file cannot be read.
    """
    ledger, modality = read_ledger(root, manifest), manifest.load_recipe().modality
    with spooled(root, ledger.vectors) as spool:
        dimensions = [d for column in modality.vector_columns for d in _vector_dimensions(spool, column)]
        wrong = _wrong_values(spool, modality.vector_columns, manifest.frames)
        wrong += [flips.finding() for flips in _sign_flips(spool, modality.vector_columns) if flips.count]
        turned = read_turned(root)
    for name in ledger.cameras:
        dimensions += _camera_dimensions(name, ledger.histograms[name], ledger.frames)
    deviations = {column.name: {} for column in modality.columns}
    for each in dimensions:
        if each.stats:
            deviations[each.column][each.name] = each.stats["std"]
    return Inspection(manifest, dimensions, [*wrong, *near_constant(modality.columns, deviations)], turned)


def checks(feature: VectorFeature) -> tuple[Limit, ...]:
    """What all numbers of ``feature`` must satisfy."""
    return FINITE, *feature.part.limits


def _wrong_values(spool: Spool, columns: Sequence[Column], total: int) -> list[Finding]:
    parts = [(column.name, *part) for column in columns for part in _parts(column)]
    found = Breaches()
    for episode, rows in enumerate(spool.episodes()):
        for column, feature, place in parts:
            broken = [breach(feature.name, limit, rows[column][:, place]) for limit in checks(feature)]
            found.add(episode, [each for each in broken if each is not None])
    texts = {(each.name, each.says): (each, text) for each, text in found.texts(total)}
    findings = []
    for column, feature, _ in parts:
        for limit in checks(feature):
            if (feature.name, limit.says) in texts:
                each, text = texts[feature.name, limit.says]
                names = element_names(feature)
                findings.append(Finding(column, tuple(names[dim] for dim in sorted(each.dims)), text))
    return findings


def _parts(column: Column) -> Iterator[tuple[VectorFeature, slice]]:
    """The features side by side in a column, and where."""
    start = 0
    for feature in column.sources:
        yield feature, slice(start, start + feature.shape[0])
        start += feature.shape[0]


class _Flips:
    """Where the rotation of one feature hardly moves but its numbers change sign, as from q to -q."""

    def __init__(self, column: str, feature: VectorFeature, place: slice) -> None:
        self.column, self.feature, self.count, self._first = column, feature, 0, ""
        self._place = slice(place.start + 3, place.stop)

    def look(self, episode: int, rows: Floats) -> None:
        """Count an episode's rows of the column, (T, D)."""
        rotations = rows[:, self._place].astype(np.float64)
        is_quat = self.feature.convention.rotation == "quat_wxyz"
        quats = rotations if is_quat else geometry.rotvec_to_quat(rotations)
        flips = np.flatnonzero((quats[1:] * quats[:-1]).sum(axis=1) < -FLIP_COSINE)
        self.count += len(flips)
        if len(flips):
            self._first = self._first or f"episode {episode}, frame {flips[0] + 1}"

    def finding(self) -> Finding:
        """The finding as one sentence."""
        known = self.feature.part.has_reference_rotation
        why = "its rotations span more than half a turn" if known else "q and -q are one rotation: convert it again"
        text = f"the sign turns over between neighbours {self.count} times, first in {self._first} ({why})"
        return Finding(self.column, tuple(element_names(self.feature)[3:]), text)


def _sign_flips(spool: Spool, columns: Sequence[Column]) -> list[_Flips]:
    parts = [(column.name, *part) for column in columns for part in _parts(column)]
    found = [_Flips(*part) for part in parts if part[1].part.has_two_numbers]
    for episode, rows in enumerate(spool.episodes() if found else ()):
        for flips in found:
            flips.look(episode, rows[flips.column])
    return found


def _vector_dimensions(spool: Spool, column: Column) -> list[Dimension]:
    """Over the rows whose numbers are all finite."""

    def blocks() -> Iterator[NDArray[np.float32]]:
        return (block[np.isfinite(block).all(axis=1)] for block in spool.blocks(column.name))

    names = dimension_names(column)
    if not any(len(block) for block in blocks()):
        nothing = np.zeros(1), np.zeros(0, np.int64)
        return [Dimension(column.name, name, False, {}, *nothing) for name in names]
    stats = statistics.of_blocks(blocks)
    edges = [_edges(low, high) for low, high in zip(stats["min"], stats["max"], strict=True)]
    counts = [np.zeros(BINS, np.int64) for _ in names]
    for block in blocks():
        for i, each in enumerate(counts):
            each += np.histogram(block[:, i], edges[i])[0]
    return [
        Dimension(column.name, name, False, {key: float(stats[key][i]) for key in SHOWN}, edges[i], counts[i])
        for i, name in enumerate(names)
    ]


def _edges(low: float, high: float) -> Floats:
    """Around a constant, as wide as the floor under its standard deviation."""
    return np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - STD_FLOOR, low + STD_FLOOR, BINS + 1)


def _camera_dimensions(column: str, histogram: Histogram, frames: int) -> list[Dimension]:
    stats = statistics.of_histograms(histogram, frames)
    edges = (np.arange(LEVELS + 1) - 0.5) / (LEVELS - 1)
    return [
        Dimension(column, name, True, {key: float(stats[key][i, 0, 0]) for key in SHOWN}, edges, histogram[i])
        for i, name in enumerate(CHANNELS)
    ]
