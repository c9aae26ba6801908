"""Exact order statistics of more numbers than fit in memory: a radix selection over float32 bit patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Blocks = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives the same blocks (T_i, D) at each call."""

DIGITS = (11, 11, 10)  # bits, from the top; one pass over the data each
SIGN = np.uint32(1 << 31)


def order_statistics(blocks: Blocks, ranks: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """The value of each rank (0 is the smallest) in every dimension: rank -> (D,)."""
    found: list[_Search] = []
    shift = 32
    for bits in DIGITS:
        shift -= bits
        for block in blocks():
            keys = _sortable(block)
            found = found or [_Search(ranks) for _ in range(keys.shape[1])]
            for dimension, search in enumerate(found):
                search.count(keys[:, dimension], shift, bits)
        for search in found:
            search.descend(bits)
    values = [search.values() for search in found]
    return {rank: np.array([column[i] for column in values]) for i, rank in enumerate(ranks)}


class _Search:
    """One dimension: for each rank, the top digits found so far and its rank among the numbers that share them."""

    def __init__(self, ranks: Sequence[int]) -> None:
        self.left = list(ranks)
        self.prefixes = [0] * len(ranks)
        self.counts: dict[int, NDArray[np.int64]] = {}

    def count(self, keys: NDArray[np.uint32], shift: int, bits: int) -> None:
        """Count the next digit of the keys that share a prefix."""
        tops = keys >> np.uint32(shift)
        for prefix in dict.fromkeys(self.prefixes):
            digits = tops[tops >> np.uint32(bits) == prefix] & np.uint32((1 << bits) - 1)
            counted = np.bincount(digits, minlength=1 << bits)
            self.counts[prefix] = self.counts.get(prefix, 0) + counted

    def descend(self, bits: int) -> None:
        """Take the digit in which each rank lies."""
        ends = {prefix: counted.cumsum() for prefix, counted in self.counts.items()}
        for i, prefix in enumerate(self.prefixes):
            digit = int(np.searchsorted(ends[prefix], self.left[i], side="right"))
            self.left[i] -= int(ends[prefix][digit - 1]) if digit else 0
            self.prefixes[i] = prefix << bits | digit
        self.counts = {}

    def values(self) -> NDArray[np.float64]:
        return _from_sortable(np.array(self.prefixes, np.uint32)).astype(np.float64)


def _sortable(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Unsigned integers in the order of the floats."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def _from_sortable(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.where(keys & SIGN, keys & ~SIGN, ~keys).astype(np.uint32).view(np.float32)
