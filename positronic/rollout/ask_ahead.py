"""Asking for the next chunk while the present one is played, and going over to it by the clock. Pure functions.

A chunk's timestamps count from the moment of its observation. When it arrives, the steps whose moment has passed are
left out: the arm has done those of the chunk before. Time in which the arm stood still, because the answer was late,
does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from positronic.commands import ActionStep
from positronic.rollout.playback import Answer, Ask, Event, exact_ns, moments, stamps_of

Due = tuple[Fraction, ActionStep]
"""When a step is due, in exact ns, and the step."""


def ask_ahead(start: Fraction, end_ns: int, ask: Ask, step_sec: float, remaining: int) -> Iterator[Event]:
    """Play chunks so that the policy is asked when ``remaining`` steps are still to be played.

    One question is open at a time. An arm that runs out of steps stands still until the answer is there, and then goes
    on with the step that it had come to.
    """
    step, queue = exact_ns(step_sec), list[Due]()
    look = free = start  # when the robot is looked at if nothing is due before; when the arm has nothing more to do
    last = start - step  # when it was told something
    answer: Answer | None = None
    asked: Fraction | None = None
    while math.floor(due := queue[0][0] if queue else free) < end_ns:
        if answer is not None and (answer.ready <= due or not queue):
            looks = looks_until(answer.ready, look, step, stands=not queue)
            yield from (Event(math.floor(time), idle=not queue) for time in looks)
            stood = max(answer.ready - free, Fraction(0))
            look, free = (looks[-1] + step if looks else look), max(answer.ready, free)
            queue, answer = spliced(queue, answer, stood, last, step), None
            if queue:
                free = queue[-1][0] + step
            else:  # nothing new: what is current stays for a control step
                yield Event(math.floor(free))
                look = free = free + step
        elif answer is None and len(queue) <= remaining and asked != due:
            looks = looks_until(due, look, step)
            yield from (Event(math.floor(time)) for time in looks)
            look = looks[-1] + step if looks else look
            answer, asked = ask(due), due
        else:
            yield from (Event(math.floor(time)) for time in looks_until(due, look, step))
            yield Event(math.floor(due), queue.pop(0)[1])
            look, last = due + step, due


def looks_until(before: Fraction, look: Fraction, step: Fraction, stands: bool = False) -> list[Fraction]:
    """When the robot is looked at, every control step from ``look`` on. One that ``stands`` still is looked at as soon
    as it does."""
    first = [look] if stands and look < before else []
    return [*first, *moments(look + len(first) * step, before, step)]


def spliced(queue: Sequence[Due], answer: Answer, stood: Fraction, last: Fraction, step: Fraction) -> list[Due]:
    """The steps of the answer that are due when it is there, and before them those of ``queue`` that are due earlier.

    ``stood``: how long the arm stood still since it was asked. ``last``: when it was told something. Nothing is due
    within half a control step of something else.
    """
    chunk = answer.chunk()
    times = [answer.asked + stood + stamp for stamp in stamps_of(chunk)]
    earliest = max(answer.ready, last + step / 2)
    new = [due for due in zip(times, chunk, strict=True) if due[0] >= earliest]
    return [*(due for due in queue if not new or due[0] <= new[0][0] - step / 2), *new]
