"""What a baked dataset's numbers look like, and which of them look wrong.

Limits are wide on purpose: they find other units (millimetres, degrees), other layouts and damage, not bad demonstrations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic.bake import statistics
from positronic.bake.columns import column_blocks, episode_columns
from positronic.bake.features import element_names
from positronic.bake.frames import Histogram
from positronic.bake.manifest import Manifest
from positronic.bake.recompute import read_ledger
from positronic.bake.statistics import STD_FLOOR, Stats
from positronic.codecs.features import VectorFeature
from positronic.codecs.modality import Column

Floats = NDArray[np.floating]

GRIP_SLACK = 0.01  # measured widths overshoot by a sensor's step
REACH_M = 3.0  # from the robot's base; arms on a table reach about 1 m, and millimetres come as hundreds
JOINT_LIMIT_RAD = 2 * math.pi  # no joint here turns further; degrees come as tens
ROTATION_SLACK = 1e-3  # of lengths and angles of unit vectors, far above float32's rounding
BINS = 60


class Check(NamedTuple):
    """``measure``: the numbers of one feature (T, D) -> (T, M), each of which should lie in ``low`` to ``high``."""

    what: str
    expected: str
    low: float
    high: float
    measure: Callable[[Floats], Floats]


class Finding(NamedTuple):
    """Something that looks wrong. ``dimensions``: names of those that it is about."""

    column: str
    dimensions: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.column}, {self.text}"


class Dimension(NamedTuple):
    """One number of a column, or one channel of a camera. ``stats`` None: it has no finite value. ``counts``: how many
    values lie between neighbouring ``edges``."""

    column: str
    name: str
    stats: dict[str, float] | None
    edges: Floats
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Inspection:
    """Everything about one dataset. Images are in 0..1."""

    manifest: Manifest
    dimensions: list[Dimension]
    findings: list[Finding]

    def flagged(self, dimension: Dimension) -> bool:
        """Whether a finding is about this dimension."""
        return any(dimension.column == f.column and dimension.name in f.dimensions for f in self.findings)


def inspect(root: Path, manifest: Manifest) -> Inspection:
    """Look at every number of the dataset in ``root``; its frames by their histograms.

    Raises PositronicError when it is not whole.
    """
    ledger, modality = read_ledger(root, manifest), manifest.load_recipe().modality
    dimensions = [d for column in modality.vector_columns for d in _vector_dimensions(root, column)]
    dimensions += [d for name in ledger.cameras for d in _camera_dimensions(name, ledger.histograms[name])]
    wrong = _wrong_values(root, modality.vector_columns, manifest.frames)
    return Inspection(manifest, dimensions, [*wrong, *_constants(dimensions)])


def checks(feature: VectorFeature) -> tuple[Check, ...]:
    """What the numbers of ``feature`` must satisfy."""
    if feature.part == "grip":
        return (Check("gripper", "0 (open) to 1 (closed)", -GRIP_SLACK, 1 + GRIP_SLACK, lambda grip: grip),)
    if feature.part == "joint_position":
        turn = JOINT_LIMIT_RAD
        return (Check("joint", "at most 2 pi either way: radians, not degrees", -turn, turn, lambda joints: joints),)
    if feature.part == "ee_pose":
        near = Check(
            "distance from the base", f"at most {REACH_M:g} m: metres, not millimetres", 0, REACH_M, _distance
        )
        return near, *ROTATION_CHECKS.get(feature.convention.rotation, ())
    return ()


def _distance(pose: Floats) -> Floats:
    return np.linalg.norm(pose[:, :3], axis=1, keepdims=True)


def _quat_norm(pose: Floats) -> Floats:
    return np.linalg.norm(pose[:, 3:7], axis=1, keepdims=True)


def _rows_error(pose: Floats) -> Floats:
    """How far the two rows are from unit length and from a right angle."""
    first, second = pose[:, 3:6], pose[:, 6:9]
    lengths = [np.linalg.norm(row, axis=1) - 1 for row in (first, second)]
    return np.abs(np.stack([*lengths, (first * second).sum(axis=1)], axis=1)).max(axis=1, keepdims=True)


ROTATION_CHECKS = {
    "quat_wxyz": (Check("quaternion's norm", "1", 1 - ROTATION_SLACK, 1 + ROTATION_SLACK, _quat_norm),),
    "rot6d_rows": (
        Check("rotation rows' distance from orthonormal", "0", -ROTATION_SLACK, ROTATION_SLACK, _rows_error),
    ),
}


@dataclass
class _Tally:
    """Frames of one feature that fail one check."""

    column: str
    feature: VectorFeature
    check: Check | None  # None: that they are finite
    frames: int = 0
    first: tuple[int, int] = (0, 0)
    worst: float = 0.0
    failing: set[int] = field(default_factory=set)

    def look(self, episode: int, rows: Floats) -> None:
        """Count the rows (T, D) of an episode."""
        finite = np.isfinite(rows)
        whole = finite.all(axis=1)
        if self.check is None:
            self._count(episode, ~finite)
            return
        measured = np.full((len(rows), 1), self.check.low)
        measured = self.check.measure(rows.astype(np.float64))
        beyond = np.maximum(self.check.low - measured, measured - self.check.high)
        beyond[~whole] = 0
        self._count(episode, beyond > 0)
        if (beyond > 0).any():
            place = np.unravel_index(beyond.argmax(), beyond.shape)
            self.worst = max(self.worst, float(measured[place]), key=self._distance)

    def finding(self, total: int) -> Finding:
        """In one sentence."""
        count = f"{self.frames} of {total} frames, first in episode {self.first[0]}, frame {self.first[1]}"
        names = element_names(self.feature)
        if self.check is None:
            text = f"{self.feature.name}: not a finite number in {count}"
        else:
            check = self.check
            text = f"{self.feature.name}: {check.what} {self.worst:.4g}, expected {check.expected}; {count}"
        return Finding(self.column, tuple(names[i] for i in sorted(self.failing)) or tuple(names), text)
