"""Exact statistics: equal to numpy's over all frames, in float64, with memory that does not grow with the number of
frames.

Frames are counted in 8-bit histograms while they are encoded; vectors are read back in blocks. Quantiles are numpy's
default: linear between the two nearest order statistics.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from positronic.bake.selection import Blocks, order_statistics

Stats = dict[str, NDArray]
"""min, max, mean, std (float64), count (int64 (1,)), q01, q10, q50, q90, q99; one value per dimension."""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STD_FLOOR = (
    0.01  # of training, in SI and quaternion units; without it, noise of a nearly constant dimension becomes signal
)
LEVELS = np.arange(256) / 255  # of an 8-bit image, scaled to 0..1


def of_rows(rows: NDArray) -> Stats:
    """Statistics of (T, D), or of (T,) as one dimension, that fit in memory."""
    rows = np.asarray(rows, np.float64).reshape(len(rows), -1)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)]),
    } | dict(zip(QUANTILES, quantiles, strict=True))


def of_blocks(blocks: Blocks) -> Stats:
    """Statistics of all rows of all blocks, float32 (T_i, D). The blocks are read several times."""
    total = sum(len(block) for block in blocks())
    mean = _column_sums(blocks) / total
    # In a second pass: a sum of squares would cancel where the mean is large beside the deviation.
    variance = _column_sums(lambda: ((block - mean) ** 2 for block in blocks())) / total
    ranks = {name: _ranks(quantile, total) for name, quantile in QUANTILES.items()}
    ordered = order_statistics(
        blocks, sorted({0, total - 1, *(r for low, high, _ in ranks.values() for r in (low, high))})
    )
    stats = {"min": ordered[0], "max": ordered[total - 1], "mean": mean, "std": np.sqrt(variance)}
    stats |= {"count": np.array([total])}
    return stats | {name: _lerp(ordered[low], ordered[high], part) for name, (low, high, part) in ranks.items()}


def of_counts(values: NDArray, counts: NDArray[np.int64]) -> Stats:
    """Statistics of ``values`` (V,), ascending, each ``counts`` (V,) times; one dimension."""
    values, counts = np.asarray(values, np.float64)[counts > 0], counts[counts > 0]
    total = int(counts.sum())
    mean = math.fsum((values * counts).tolist()) / total
    ends = counts.cumsum()
    stats = {"min": values[0], "max": values[-1], "mean": mean}
    stats["std"] = math.sqrt(math.fsum(((values - mean) ** 2 * counts).tolist()) / total)
    for name, quantile in QUANTILES.items():
        low, high, part = _ranks(quantile, total)
        below, above = values[np.searchsorted(ends, [low, high], side="right")]
        stats[name] = _lerp(below, above, part)
    return {name: np.array([value]) for name, value in stats.items()} | {"count": np.array([total])}


def of_histograms(histograms: NDArray[np.int64], frames: int) -> Stats:
    """Statistics of ``frames`` frames from their histograms (3, 256): shape (3, 1, 1), in 0..1; count in frames."""
    channels = [of_counts(LEVELS, counts) for counts in histograms]
    stats = {name: np.stack([channel[name] for channel in channels]).reshape(-1, 1, 1) for name in channels[0]}
    return stats | {"count": np.array([frames])}


def of_range(count: int) -> Stats:
    """Statistics of 0, 1, ..., count - 1."""
    last = count - 1
    values = {"min": 0.0, "max": float(last), "mean": last / 2, "std": math.sqrt((count * count - 1) / 12)}
    values |= {name: quantile * last for name, quantile in QUANTILES.items()}
    return {name: np.array([value]) for name, value in values.items()} | {"count": np.array([count])}


def _column_sums(blocks: Blocks) -> NDArray[np.float64]:
    # Added exactly: a running sum would lose the last digits of many frames.
    parts = [block.sum(axis=0, dtype=np.float64).tolist() for block in blocks()]
    return np.array([math.fsum(column) for column in zip(*parts, strict=True)])


def _ranks(quantile: float, total: int) -> tuple[int, int, float]:
    """The two ranks around a quantile, and how far it lies between them."""
    position = quantile * (total - 1)
    low = math.floor(position)
    return low, min(low + 1, total - 1), position - low


def _lerp(low: NDArray | float, high: NDArray | float, part: float) -> NDArray | float:
    """As numpy does it: starting from the nearer end."""
    step = high - low
    return high - step * (1 - part) if part >= 0.5 else low + step * part
