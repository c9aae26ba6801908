"""What the worker counts, and how it tells the API process."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass

from positronic.serving.store import Counts
from positronic.utils.serialization import deserialise, serialise

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0)
SIZES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 128.0)


class Tally:
    """How many values lie between ``bounds``, each belonging to the next larger one, and the sum of all values."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


@dataclass(frozen=True)
class WorkerState:
    """Everything that the worker has counted since it was started. ``queued``: observations that wait for a forward
    pass now. ``batches`` and ``seconds`` are counts between ``SIZES`` and ``SECONDS``, and sums."""

    queued: int
    batches: list[int]
    batches_sum: float
    seconds: list[int]
    seconds_sum: float
    store: Counts

    def to_bytes(self) -> bytes:
        """For the API process."""
        return serialise(asdict(self))

    @classmethod
    def from_bytes(cls, state: bytes) -> WorkerState:
        """As ``to_bytes`` wrote it."""
        values = deserialise(state)
        return cls(**values | {"store": Counts(**values["store"])})


class Recorder:
    """Counts forward passes. A pass costs it about a microsecond."""

    def __init__(self) -> None:
        self._batches, self._seconds = Tally(SIZES), Tally(SECONDS)

    def passed(self, count: int, seconds: float) -> None:
        """A forward pass for so many observations has ended."""
        self._batches.add(count)
        self._seconds.add(seconds)

    def state(self, queued: int, store: Counts) -> WorkerState:
        """All that was counted, with what the store of policies has counted."""
        sizes, seconds = self._batches, self._seconds
        return WorkerState(queued, sizes.counts, sizes.total, seconds.counts, seconds.total, store)
