"""When a robot will ask again: as long after its last answer as it usually does."""

from __future__ import annotations

from collections import deque
from statistics import median

REMEMBERED = 3


class Rhythm:
    """Of one session, in seconds of one clock. A robot that plays chunks of one length asks at an even pace; so does
    one that asks as soon as it is answered. One late observation in three does not change what is expected of it."""

    def __init__(self) -> None:
        self._answered: float | None = None
        self._pauses: deque[float] = deque(maxlen=REMEMBERED)

    def ask(self, now: float) -> None:
        """An observation has come."""
        if self._answered is not None:
            self._pauses.append(now - self._answered)
        self._answered = None

    def answer(self, now: float) -> None:
        """Its answer is on the way."""
        self._answered = now

    def is_due(self, now: float, until: float, tolerance: float) -> bool:
        """Whether the next observation should come between ``now`` and ``until``, ``tolerance`` too late or too early.
        Nothing is expected of a session whose pauses differ by more than that."""
        if self._answered is None or len(self._pauses) < 2:
            return False
        usual = median(self._pauses)
        even = sum(abs(pause - usual) <= tolerance for pause in self._pauses) >= 2
        return even and now - tolerance <= self._answered + usual <= until
