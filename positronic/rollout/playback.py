"""When the steps of an action chunk are due, on the robot's own clock. Pure: no robot, no waiting.

The policy is asked again when the chunk has ended, one control step after its last timestamp, so that a chunk of n
steps at f Hz lasts n / f s and the next one follows without a gap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from positronic.commands import ActionStep
from positronic.errors import PositronicError

NS_PER_SEC = 1_000_000_000


def to_ns(seconds: float) -> int:
    """Seconds to whole nanoseconds, floored: what is stamped so belongs to its own point of a resampling grid."""
    return math.floor(seconds * NS_PER_SEC)


@dataclass(frozen=True)
class Event:
    """A moment at which the loop looks at the robot; ``step``, if any, becomes current then."""

    time_ns: int
    step: ActionStep | None = None


@dataclass(frozen=True)
class Schedule:
    """A chunk on the clock: ``times_ns`` (n,) strictly increasing, when ``steps`` (n,) are due. The chunk was asked for
    at ``asked_ns`` and ends at ``end_ns``, when the policy is asked again."""

    asked_ns: int
    end_ns: int
    times_ns: tuple[int, ...]
    steps: tuple[ActionStep, ...]
    step_ns: int

    def events(self) -> Iterator[Event]:
        """From the question to just before the end: every step when it is due, and between them moments to look at the
        robot, so that it is looked at once per control step even where the chunk has nothing new."""
        if self.asked_ns not in self.times_ns:
            yield Event(self.asked_ns)
        look_ns = self.asked_ns + self.step_ns
        for time_ns, step in zip(self.times_ns, self.steps, strict=True):
            yield from _looks(look_ns, time_ns, self.step_ns)
            yield Event(time_ns, step)
            look_ns = time_ns + self.step_ns
        yield from _looks(look_ns, self.end_ns, self.step_ns)


def _looks(first_ns: int, before_ns: int, step_ns: int) -> Iterator[Event]:
    """Every ``step_ns`` from ``first_ns``, none closer than half a step to ``before_ns``."""
    for time_ns in range(first_ns, before_ns - step_ns // 2, step_ns):
        yield Event(time_ns)


def schedule(chunk: Sequence[ActionStep], asked_ns: int, step_sec: float, latency_ns: int = 0) -> Schedule:
    """Put a chunk, asked for at ``asked_ns`` and answered ``latency_ns`` later, on the clock.

    ``step_sec``: length of a control step. An empty chunk means that there is nothing new: what is current stays so for
    one control step. Raises PositronicError when timestamps are not finite, not increasing or before the start.
    """
    stamps = [step.timestamp for step in chunk]
    _check(stamps)
    start_ns = asked_ns + latency_ns
    times_ns = tuple(start_ns + to_ns(stamp) for stamp in stamps)
    end_ns = start_ns + to_ns(stamps[-1] + step_sec if stamps else step_sec)
    return Schedule(asked_ns, end_ns, times_ns, tuple(chunk), to_ns(step_sec))


def _check(stamps: Sequence[float]) -> None:
    finite = all(math.isfinite(stamp) for stamp in stamps)
    whole_ns = [to_ns(stamp) for stamp in stamps] if finite else []
    increasing = all(a < b for a, b in itertools.pairwise([-1, *whole_ns]))
    if not finite or not increasing:
        shown = ", ".join(f"{stamp:g}" for stamp in stamps[:6])
        raise PositronicError(
            "An action chunk's timestamps are seconds from its start and must increase from 0 or later; found"
            f" {shown}{', ...' if len(stamps) > 6 else ''}. Mend the server, whose codec stamps the steps."
        )
