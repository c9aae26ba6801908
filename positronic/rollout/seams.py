"""Whether a step may be played where chunks overlap or are of one step each: what is spliced or averaged, or comes
alone, was never looked at as a whole.

``safety.py`` admits each chunk from where the robot was when the policy was asked. Here is what lies between chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from positronic.commands import ActionStep, Command
from positronic.hardware.robot import RobotContract
from positronic.rollout.check import UnsafeChunk
from positronic.rollout.config import CLAMP, PLAY_OUT, DriverConfig
from positronic.rollout.safety import ArmMotions, Stretch, told_instead

REMEMBERED = 2  # steps before the one that is due: an acceleration is between three
Told = list[tuple[float, Command]]
"""What an arm was told last, of one kind, each with its time in s."""


class SeamCheck:
    """Admits steps for one robot, one after another, as they are due. ``step_sec``: length of a control step."""

    def __init__(self, contract: RobotContract, driver: DriverConfig, step_sec: float) -> None:
        self._driver, self._step_sec = driver, step_sec
        self._motions = ArmMotions(contract, driver, step_sec)
        self._told: dict[str, Told] = {}
        self._behind = set[str]()  # arms whose last step was clamped

    def admit(self, step: ActionStep, time_sec: float, observation: Mapping[str, Any]) -> ActionStep:
        """The step as it may be played at ``time_sec``, itself if it keeps to the driver's limits.

        ``observation``: where the robot is now. Raises UnsafeChunk for a jump from there, and for a speed or an
        acceleration from the steps before beyond the limits; with ``driver.on_unsafe_chunk=clamp``, the step goes as
        far as it may instead.
        """
        for arm, action in step.arms.items():
            before = self._before(arm, action.command)
            command = self._admitted(action.command, arm, before, time_sec, observation)
            step = told_instead(step, arm, command)
            self._told[arm] = [*before, (self._apart(before, time_sec), command)][-REMEMBERED:]
        return step

    def _before(self, arm: str, command: Command) -> Told:
        """What the arm was told before, if that is comparable."""
        told = self._told.get(arm, [])
        return told if told and type(told[-1][1]) is type(command) else []

    def _apart(self, before: Told, time_sec: float) -> float:
        """When the step counts: a control step after the one before it at the earliest, as two chunks' clocks meet."""
        return max(time_sec, before[-1][0] + self._step_sec) if before else time_sec

    def _admitted(
        self, command: Command, arm: str, before: Told, time_sec: float, observation: Mapping[str, Any]
    ) -> Command:
        here = Stretch([command], np.zeros(1))
        times = np.array([*(time for time, _ in before), self._apart(before, time_sec)])
        after = Stretch([*(told for _, told in before), command], times)
        found = self._motions.fault(here, arm, observation) or self._motions.fault(after, arm, {})
        if self._driver.on_unsafe_chunk == CLAMP:
            return self._clamped(here, after, arm, observation) if found or arm in self._behind else command
        if found:
            calm = "" if self._driver.playback == PLAY_OUT else f"driver.playback={PLAY_OUT} or "
            raise UnsafeChunk(
                f"The step that is due at {time_sec:.3f} s ({command.kind}), where chunks meet: {found[1]}. It was not"
                f" played. Type {calm}driver.on_unsafe_chunk={CLAMP}, or look at the checkpoint."
            )
        return command

    def _clamped(self, here: Stretch, after: Stretch, arm: str, observation: Mapping[str, Any]) -> Command:
        """As far towards the step as it may. An arm that is behind is brought to its steps so that it can stand there:
        nobody knows yet what it is told next."""
        (near,) = self._motions.brought_within(here, arm, observation)
        twice = [*after.commands[:-1], near, near]
        times = np.append(after.times_sec, after.times_sec[-1] + self._step_sec)
        command = self._motions.brought_within(Stretch(twice, times), arm, {})[-2]
        if command is after.commands[-1]:
            self._behind.discard(arm)
        else:
            self._behind.add(arm)
        return command
