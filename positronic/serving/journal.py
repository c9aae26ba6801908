"""What happens to sessions, in the server's log and in its metrics: a line and a count for each event."""

from __future__ import annotations

import itertools
import logging
import time

from positronic.serving.logs import fields
from positronic.serving.metrics import Metrics

logger = logging.getLogger(__name__)

# Why a session is refused, as the metrics call it.
FULL, UNAVAILABLE, STOPPED, EARLY = "full", "unavailable", "stopped", "early"


class Visit:
    """One client's session, from its connection on. ``number``: no other session of this server has it."""

    def __init__(self, number: int, address: str, metrics: Metrics) -> None:
        self.number, self.address, self._metrics = number, address, metrics
        self._begin_sec = time.monotonic()
        self._checkpoint = ""
        self._answers = self._errors = 0

    def ready(self, checkpoint: str) -> None:
        """Observations may come."""
        self._checkpoint, self._latency = checkpoint, self._metrics.answered.labels(checkpoint)
        self._metrics.opened.labels(checkpoint).inc()
        waited_sec = time.monotonic() - self._begin_sec
        said = f"Session {self.number} of {self.address} is ready after {waited_sec:.1f} s: checkpoint {checkpoint}"
        logger.info("%s", said, extra=self._fields("opened", waited_sec=round(waited_sec, 3)))

    def answered(self, seconds: float) -> None:
        """An observation has an answer, after so long."""
        self._latency.observe(seconds)
        self._answers += 1

    def failed(self, reason: str) -> None:
        """An observation has none."""
        self._errors += 1
        self._metrics.failed.labels(self._checkpoint).inc()
        said = f"Session {self.number} of {self.address}: an observation has no answer: {reason}"
        logger.warning("%s", said, extra=self._fields("error", reason=reason))

    def refused(self, why: str, reason: str) -> None:
        """There will be no session. ``why``: FULL, UNAVAILABLE, STOPPED or EARLY."""
        self._metrics.refused.labels(why).inc()
        said = f"Session {self.number} of {self.address} is refused: {reason}"
        logger.warning("%s", said, extra=self._fields("refused", why=why, reason=reason))

    def ended(self, why: str) -> None:
        """Nothing more will come. Says nothing of a session that was refused, or never ready."""
        if not self._checkpoint:
            return
        lasted_sec = time.monotonic() - self._begin_sec
        said = (
            f"Session {self.number} of {self.address} has ended after {lasted_sec:.1f} s, {self._answers} answers and "
            f"{self._errors} errors: {why}"
        )
        counts = {"answers": self._answers, "errors": self._errors, "lasted_sec": round(lasted_sec, 3)}
        logger.info("%s", said, extra=self._fields("closed", reason=why, **counts))

    def _fields(self, event: str, **more: object) -> dict[str, object]:
        named = {"event": event, "session": self.number, "address": self.address, "checkpoint": self._checkpoint}
        return fields({name: value for name, value in named.items() if value != ""} | more)


class Journal:
    """Numbers the sessions."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._numbers = metrics, itertools.count(1)

    def visit(self, address: str) -> Visit:
        """Of a client that has just connected."""
        return Visit(next(self._numbers), address, self._metrics)
