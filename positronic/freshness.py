"""Is what a signal says still true? Its content decides: a picture that repeats, a value that stays, a robot that
moves.

This is for recordings and for a running robot. It says when pictures are the same within coding noise, and what counts
as a clear movement. Stamps alone prove nothing: a reader that hangs delivers its last picture with new stamps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageChops

from positronic import keys

Floats = NDArray[np.float64]

CLEAR_M, CLEAR_RAD, CLEAR_JOINT_RAD, CLEAR_GRIP = 0.03, 0.5, 0.2, 0.5  # what a camera or a sensor cannot miss
BLOCK, MAX_BLOCKS = 4, 16  # samples in a block and blocks in a picture, on a side
LOOKS_PER_SEC = 5  # a run of still pictures is found to 0.2 s; looking at every picture would take 4 to 10 % of a bake
# Simulated pictures, x264 at crf 20 and 23: in a camera that froze, a block changed by 14 levels at most where it is 4
# pixels wide (64 x 64), by 8 at 14 pixels; where the arm moved by 3 cm, by 90 and more.
NOISE_LEVELS, NOISE_PER_PIXEL = 6, 48
FLAT_LEVELS = 6  # a picture with less contrast says nothing about time


class Picture(NamedTuple):
    """``pixels``: a sample of it. ``noise``: levels by which encoding alone may change one of its blocks."""

    pixels: Image.Image
    noise: float


def look_at(image: Image.Image, box: tuple[int, int, int, int] | None = None) -> Picture:
    """The RGB picture inside ``box`` (left, top, right, bottom; None: all of ``image``) as it is compared."""
    left, top, right, bottom = box or (0, 0, *image.size)
    columns, rows = (max(1, min(MAX_BLOCKS, side // BLOCK)) for side in (right - left, bottom - top))
    size = columns * BLOCK, rows * BLOCK
    sampled = image.resize(size, Image.Resampling.NEAREST, box=(left, top, right, bottom))
    return Picture(sampled, NOISE_LEVELS + NOISE_PER_PIXEL * columns / (right - left))


def change(one: Picture, other: Picture) -> float:
    """By how many levels the block that changes most differs, on average over its pixels, so that movement within a
    block is seen."""
    difference = ImageChops.difference(one.pixels, other.pixels).reduce(BLOCK)
    return max(high for _, high in difference.getextrema())


def contrast(picture: Picture) -> int:
    """Levels between the darkest and the brightest block."""
    return max(high - low for low, high in picture.pixels.reduce(BLOCK).getextrema())


class StillRun(NamedTuple):
    """Pictures ``first`` to ``last`` (inclusive, counted from 0) are one and the same within coding noise."""

    first: int
    last: int


class StillWatch:
    """Finds the runs in which one camera's pictures are the same as the first of their run.

    Each picture is compared with the first and not with its neighbour, so that slow motion adds up.
    """

    def __init__(self) -> None:
        self._runs: list[StillRun] = []
        self._anchor: Picture | None = None
        self._first = self._last = 0
        self._contrast = 0

    def look(self, number: int, picture: Picture) -> None:
        """Take picture ``number``, in ascending order; those between count as the ones beside them."""
        if self._anchor is None or not is_same(self._anchor, picture):
            self._close()
            self._anchor, self._first = picture, number
            self._contrast = max(self._contrast, contrast(picture))
        self._last = number

    def runs(self) -> list[StillRun]:
        """All runs of two pictures and more; none of a camera that never showed any contrast."""
        self._close()
        self._first = self._last
        return self._runs if self._contrast >= FLAT_LEVELS else []

    def _close(self) -> None:
        if self._last > self._first:
            self._runs.append(StillRun(self._first, self._last))


def is_same(one: Picture, other: Picture) -> bool:
    """Whether encoding alone may explain the difference."""
    return change(one, other) <= one.noise


def _pose_distance(values: Floats, reference: Floats) -> Floats:
    travel = np.linalg.norm(values[:, :3] - reference[:3], axis=1)
    cosine = np.abs(values[:, 3:] @ reference[3:])  # q and -q are one rotation
    norms = np.linalg.norm(values[:, 3:], axis=1) * np.linalg.norm(reference[3:])
    angle = 2 * np.arccos(np.clip(cosine / np.maximum(norms, 1e-9), 0, 1))
    return np.maximum(travel / CLEAR_M, angle / CLEAR_RAD)


def _joint_distance(values: Floats, reference: Floats) -> Floats:
    return np.abs(values - reference).max(axis=1) / CLEAR_JOINT_RAD


def _grip_distance(values: Floats, reference: Floats) -> Floats:
    return np.abs(values - reference).max(axis=1) / CLEAR_GRIP


DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    keys.EE_POSE: _pose_distance,
    keys.COMMAND_POSE: _pose_distance,
    keys.JOINT_POSITION: _joint_distance,
    keys.COMMAND_JOINTS: _joint_distance,
    keys.GRIP: _grip_distance,
    keys.TARGET_GRIP: _grip_distance,
}
"""Signals whose movement can be told, by the names that an only arm has."""

MEASURED_ARM = (keys.EE_POSE, keys.JOINT_POSITION)
"""What says that the arm moves. The pose comes first: a turning wrist joint alone may not be seen from afar."""


WRIST = "wrist"  # in the role of a camera that moves with an arm


def moving_signals(present: Iterable[str], plain: Sequence[str] = MEASURED_ARM) -> dict[str, list[str]]:
    """Arm -> those of the signals ``plain`` that it has among ``present``, in this order."""
    present = list(present)
    split = [keys.split_arm(name) for name in present]
    arms = dict.fromkeys(arm for name, arm in split if name in plain)
    return {arm: [name for name in (keys.of_arm(each, arm) for each in plain) if name in present] for arm in arms}


def seen_arms(role: str, arms: Collection[str]) -> list[str]:
    """The arms whose movement a camera of this role cannot miss: every arm, but of a wrist's camera that arm alone.

    None for the camera of a wrist that does not say which of several arms it is at.
    """
    if len(arms) == 1 or f"_{WRIST}_" not in f"_{role}_":
        return list(arms)
    return [arm for arm in arms if f"_{arm}_" in f"_{role}_"]


def is_movement(name: str) -> bool:
    """Whether ``distance`` knows the signal."""
    return keys.split_arm(name)[0] in DISTANCES


def distance(name: str, values: ArrayLike, reference: ArrayLike) -> Floats:
    """How far samples (T, ...) of signal ``name`` are from a ``reference`` sample: (T,), 1 is a clear movement."""
    rows = np.asarray(values, np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    return DISTANCES[keys.split_arm(name)[0]](rows, np.asarray(reference, np.float64).reshape(rows.shape[1:]))
