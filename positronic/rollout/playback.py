"""When the steps of an action chunk are due, on the robot's own clock. Pure functions: no robot, no waiting.

Times are exact fractions of a nanosecond until a robot is told about them: 1/15 s is not a whole number of nanoseconds,
and the rounding of each chunk would add up over an episode.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from positronic.commands import ActionStep
from positronic.errors import PositronicError
from positronic.raw.timeline import NS_PER_SEC

MAX_DENOMINATOR = 1_000_000  # of seconds: k / 15 and 0.0667 are found again from their floats, to 0.001 ns


def exact_ns(seconds: float) -> Fraction:
    """Nanoseconds of the simple fraction that a float stands for: 5/15 + 1/15 is 0.4 again."""
    return Fraction(seconds).limit_denominator(MAX_DENOMINATOR) * NS_PER_SEC


def to_ns(seconds: float) -> int:
    """Seconds to whole nanoseconds, rounded down, so that a stamp belongs to its own point of a resampling grid."""
    return math.floor(exact_ns(seconds))


@dataclass(frozen=True)
class Event:
    """A moment at which the loop looks at the robot. If there is a ``step``, it becomes current then. ``idle``: nothing
    is due, because the policy's answer is not there yet."""

    time_ns: int
    step: ActionStep | None = None
    idle: bool = False


@dataclass(frozen=True)
class Answer:
    """A chunk that was asked for at ``asked`` and is there at ``ready``, exact ns. ``chunk``: waits for it and returns
    it."""

    asked: Fraction
    ready: Fraction
    chunk: Callable[[], Sequence[ActionStep]]


Ask = Callable[[Fraction], Answer]
"""Lets the robot's time pass up to a moment, and asks the policy about what it sees then."""

Strategy = Callable[[Fraction, int, Ask], Iterator[Event]]
"""From when on and until when (ns) to play, and how to ask -> what happens, in order of time. The last events may be
later than the end."""


@dataclass(frozen=True)
class Schedule:
    """A chunk on the clock, in exact ns. ``times`` (n,), strictly increasing: when ``steps`` (n,) are due.

    The chunk was requested at ``asked``, was there at ``ready`` and ends at ``end``, when the policy is asked again.
    ``step`` is the length of a control step.
    """

    asked: Fraction
    ready: Fraction
    end: Fraction
    times: tuple[Fraction, ...]
    steps: tuple[ActionStep, ...]
    step: Fraction

    @property
    def end_ns(self) -> int:
        """``end`` in whole nanoseconds."""
        return math.floor(self.end)

    def events(self) -> Iterator[Event]:
        """Every step when it is due, and between steps moments to look at the robot, from the request to just before
        the end.

        So the loop looks once per control step even where the chunk has nothing new.
        """
        if self.asked not in self.times:
            yield self._look(self.asked)
        look = self.asked + self.step
        for time, step in zip(self.times, self.steps, strict=True):
            yield from map(self._look, moments(look, time, self.step))
            yield Event(math.floor(time), step)
            look = time + self.step
        yield from map(self._look, moments(look, self.end, self.step))

    def _look(self, time: Fraction) -> Event:
        return Event(math.floor(time), idle=time < self.ready)


def moments(first: Fraction, before: Fraction, step: Fraction) -> Iterator[Fraction]:
    """Every control step from ``first`` on, none closer than half a step to ``before``."""
    for number in itertools.count():
        time = first + number * step
        if time >= before - step / 2:
            return
        yield time


def schedule(
    chunk: Sequence[ActionStep], asked_ns: Fraction | int, step_sec: float, latency_ns: Fraction | int = 0
) -> Schedule:
    """Put a chunk, requested at ``asked_ns`` and answered ``latency_ns`` later, on the clock. ``step_sec``: length of a
    control step.

    An empty chunk means that there is nothing new: the current step stays for one control step. Raises PositronicError
    if timestamps are not finite, not increasing or before the start.
    """
    stamps = stamps_of(chunk)
    asked, step = Fraction(asked_ns), exact_ns(step_sec)
    ready = asked + latency_ns
    end = ready + (stamps[-1] if stamps else 0) + step
    return Schedule(asked, ready, end, tuple(ready + stamp for stamp in stamps), tuple(chunk), step)


def play_out(start: Fraction, end_ns: int, ask: Ask, step_sec: float) -> Iterator[Event]:
    """Chunk after chunk, each played to its end.

    The policy is asked again when the chunk has ended, one control step after its last timestamp. So a chunk of n steps
    at f Hz lasts n / f s, and if an answer takes no time, the next one follows without a gap.
    """
    now = start
    while math.floor(now) < end_ns:
        answer = ask(now)
        plan = schedule(answer.chunk(), answer.asked, step_sec, answer.ready - answer.asked)
        yield from plan.events()
        now = plan.end


def stamps_of(chunk: Sequence[ActionStep]) -> list[Fraction]:
    """The timestamps of a chunk's steps in ns. Raises PositronicError if they are not finite, not increasing or before
    the start."""
    seconds = [step.timestamp for step in chunk]
    stamps = [exact_ns(stamp) for stamp in seconds] if all(math.isfinite(stamp) for stamp in seconds) else []
    whole_ns = [-1, *(math.floor(stamp) for stamp in stamps)]
    if len(stamps) < len(seconds) or not all(a < b for a, b in itertools.pairwise(whole_ns)):
        shown = ", ".join(f"{stamp:g}" for stamp in seconds[:6])
        raise PositronicError(
            "An action chunk's timestamps are seconds from its start and must increase from 0 or later; found"
            f" {shown}{', ...' if len(seconds) > 6 else ''}. Mend the server, whose codec stamps the steps."
        )
    return stamps
