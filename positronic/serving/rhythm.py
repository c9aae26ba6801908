"""When a robot will ask again: as long after its last answer as it usually does."""

from __future__ import annotations

import math
from collections import deque

REMEMBERED = 3


class Rhythm:
    """Of one session, in seconds of one clock. A robot that plays chunks of one length asks at an even pace; so does
    one that asks as soon as it is answered.

    ``due``: when the next observation should come; infinite while nothing is known, or the last is not answered.
    ``spread``: by how much the pauses between answer and observation differ. Of the last three the one that is farthest
    off does not count, so that a single late observation changes nothing.
    """

    def __init__(self) -> None:
        self.due, self.spread = math.inf, math.inf
        self._answered: float | None = None
        self._pauses: deque[float] = deque(maxlen=REMEMBERED)
        self._usual = math.inf

    def ask(self, now: float) -> None:
        """An observation has come."""
        self.due = math.inf
        if self._answered is None:
            return
        self._pauses.append(now - self._answered)
        self._answered = None
        if len(self._pauses) > 1:
            self._usual = sorted(self._pauses)[len(self._pauses) // 2]
            self.spread = sorted(abs(pause - self._usual) for pause in self._pauses)[1]

    def answer(self, now: float) -> None:
        """Its answer is on the way."""
        self._answered, self.due = now, now + self._usual
