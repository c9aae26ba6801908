"""The statistics that training normalises with: those of the bake, with a floor under everything that divides.

Without it, a joint that never moved in the recordings turns a thousandth of a radian into 10^5, and a camera that
showed one colour turns a grey level into 10^6. The statistics in a checkpoint include the floors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from positronic.bake.reader import Stats
from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.modality import Column

LEVEL = 1 / 255  # one level of an 8-bit image in 0..1
SPREADS = (("min", "max"), ("q01", "q99"), ("q10", "q90"))  # each at least as wide as the next


def floored(columns: Iterable[Column], stats: Stats) -> Stats:
    """The statistics of ``columns``, each with the floor of its kind: STD_FLOOR in vectors, LEVEL in images."""
    return {column.name: with_floor(stats[column.name], LEVEL if column.is_image else STD_FLOOR) for column in columns}


def with_floor(stats: Mapping[str, NDArray[np.float64]], floor: float) -> dict[str, NDArray[np.float64]]:
    """No standard deviation and no spread below ``floor``, for every way in which a policy normalises.

    Quantiles that are too close are replaced by the next wider ones: if a gripper is closed in one frame of two
    hundred, both its quantiles are 0 although it moves between 0 and 1. A range that is too narrow grows around its
    middle.
    """
    result = dict(stats)
    if "std" in stats:
        result["std"] = np.maximum(stats["std"], floor)
    wider: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    for low, high in SPREADS:
        if low not in stats or high not in stats:
            continue
        lows, highs = np.asarray(stats[low], np.float64), np.asarray(stats[high], np.float64)
        middle = (lows + highs) / 2
        instead = wider or (middle - floor / 2, middle + floor / 2)
        narrow = highs - lows < floor
        wider = np.where(narrow, instead[0], lows), np.where(narrow, instead[1], highs)
        result[low], result[high] = wider
    return result
