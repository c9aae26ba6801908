"""A policy that answers on a clock: what it is asked, when, and with which chunk it answers when."""

from fractions import Fraction
from itertools import islice

import numpy as np

from positronic.commands import ActionStep, JointPosition
from positronic.rollout.playback import Answer

STEP_SEC = 0.1
STEP = Fraction(10**8)  # ns


class Clock:
    """Answers question k with ``sizes[k]`` steps, the last size for all further ones, ``latency`` control steps later.

    Step j of answer k commands one joint to k + j / 100.
    """

    def __init__(self, *sizes, latency=0):
        self.sizes, self.latency, self.asked = sizes, latency, []

    def ask(self, now):
        number = len(self.asked)
        self.asked.append(now / STEP)
        return Answer(now, now + self.latency * STEP, lambda: self.chunk(number))

    def chunk(self, number):
        size = self.sizes[min(number, len(self.sizes) - 1)]
        commands = [JointPosition(np.array([number + j / 100])) for j in range(size)]
        return [ActionStep.of_one(command, 0.0, j * STEP_SEC) for j, command in enumerate(commands)]


def told(events, count):
    """The first events as (time in control steps, commanded joint or None; "idle" where it waits)."""
    rows = []
    for event in islice(events, count):
        what = "idle" if event.idle else None
        rows.append((event.time_ns / STEP, round(float(event.step.command.positions[0]), 6) if event.step else what))
    return rows
