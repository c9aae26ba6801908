"""Whether a chunk may be played: it is looked at as a whole, before its first step, from where the robot is.

``check.py`` asks whether each step alone is possible for this robot. Here is what lies between the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.commands import ActionStep, CartesianPosition, Command, JointDelta, JointPosition, Reset
from positronic.embodiments.embodiment import Arm
from positronic.hardware.robot import RobotContract
from positronic.rollout.check import LIMIT_SLACK_RAD, UnsafeChunk, check_chunk, joint_limits, joints_fault, said_fault
from positronic.rollout.config import CLAMP, DriverConfig
from positronic.rollout.motion import JOINTS, PLACE, TURN, Course, Excess, MotionLimits, Quantity, Ways, excess, within

Floats = NDArray[np.float64]

AHEAD = 1.5
"""How much faster than the arm its targets may be, as the arm lags behind them. DROID's largest joint step, 0.2 rad at
15 Hz, is 1.38 times what a Franka's joints do."""
UNKNOWN_JOINT_SPEED = 2 * np.pi  # rad/s, of targets for joints whose speed nobody states; hobby servos turn at 5.4
SUM_ROUNDING = 1e-9  # rad, of ways that were shortened so that their sum is at a joint's limit


@dataclass(frozen=True)
class Admitted:
    """A chunk that may be played. ``clamped``: those of its steps that were changed for that."""

    chunk: Sequence[ActionStep]
    clamped: Sequence[ActionStep] = ()


@dataclass(frozen=True)
class Stretch:
    """Commands of one kind to one arm, one after another from a chunk's first step on, ``times_sec`` (n,)."""

    commands: Sequence[Command]
    times_sec: Floats


class ChunkCheck:
    """Admits chunks for one robot. ``step_sec``: length of a control step."""

    def __init__(self, contract: RobotContract, driver: DriverConfig, step_sec: float) -> None:
        self._contract, self._driver = contract, driver
        self._motions = ArmMotions(contract, driver, step_sec)

    def admit(self, chunk: Sequence[ActionStep], observation: Mapping[str, Any]) -> Admitted:
        """Look at a chunk, whose timestamps increase, as a whole. ``observation``: what the policy was asked about.

        Raises UnsafeChunk for a step that is out of reach or beyond a joint's limits, for a jump from where the robot
        is measured, and for speeds and accelerations between steps beyond the driver's limits. With
        ``driver.on_unsafe_chunk=clamp``, joints and motions are brought to their limits instead, and the result is
        looked at again: an arm that would have to brake harder than it may for a joint's limit is refused. Raises
        UnsafeChunk, whatever the driver says, for an arm that is told commands of several kinds, between which nothing
        can be measured; a last step may send it back to its start pose. Raises as ``check_chunk`` does for what is no
        matter of limits.
        """
        clamps = self._driver.on_unsafe_chunk == CLAMP
        check_chunk(chunk, self._contract, with_limits=not clamps)
        if not self._contract.moves:
            return Admitted(chunk)
        for arm in self._contract.arms:
            _require_one_kind(chunk, arm)
        if clamps:
            return self._clamped(chunk, observation)
        for arm in self._contract.arms:
            self._require(chunk, arm, observation)
        return Admitted(chunk)

    def _require(self, chunk: Sequence[ActionStep], arm: str, observation: Mapping[str, Any]) -> None:
        found = self._motions.fault(stretch_of(chunk, arm), arm, observation)
        if found:
            raise UnsafeChunk(said_fault(chunk, *found))

    def _clamped(self, chunk: Sequence[ActionStep], observation: Mapping[str, Any]) -> Admitted:
        steps = list(chunk)
        for arm in self._contract.arms:
            brought = self._motions.brought_within(stretch_of(chunk, arm), arm, observation)
            steps[: len(brought)] = [told_instead(step, arm, new) for step, new in zip(steps, brought, strict=False)]
        for arm in self._contract.arms:
            self._require(steps, arm, observation)
        return Admitted(steps, [new for new, old in zip(steps, chunk, strict=True) if new is not old])


class ArmMotions:
    """What commands make the arms of one robot do, and the driver's limits of that. ``step_sec``: length of a control
    step."""

    def __init__(self, contract: RobotContract, driver: DriverConfig, step_sec: float) -> None:
        self._contract, self._driver, self._step_sec = contract, driver, step_sec

    def fault(self, stretch: Stretch, arm: str, observation: Mapping[str, Any]) -> tuple[int, str] | None:
        """The number of the first command that breaks a limit, and how. ``observation``: where the robot is measured;
        without a measurement, no jump is found. None if all are within limits."""
        stated = self._stated(arm)
        for course in self._courses(stretch, arm, observation):
            beyond = _sums_fault(course, stated)
            if beyond:
                return beyond[0], f"arm {arm}: {beyond[1]}" if arm else beyond[1]
            found = excess(course, motion_limits(course.quantity, self._driver, stated))
            if found:
                return found.step, _said(course.quantity, found, arm, stated)
        return None

    def brought_within(self, stretch: Stretch, arm: str, observation: Mapping[str, Any]) -> Sequence[Command]:
        """The commands as they keep to the limits; those that do so already are the very same."""
        stated, kept = self._stated(arm), []
        for course in self._courses(stretch, arm, observation):
            limits = motion_limits(course.quantity, self._driver, stated)
            inside = replace(course, values=_within_joints(course, course.values, stated))
            kept.append(_within_joints(course, within(inside, limits), stated))  # what brakes may overshoot
        return _rebuilt(stretch.commands, kept)

    def _courses(self, stretch: Stretch, arm: str, observation: Mapping[str, Any]) -> list[Course | Ways]:
        """The motions of a stretch. Going back to the start pose is the robot's own."""
        times, commands = stretch.times_sec, stretch.commands
        match commands[0] if commands else None:
            case CartesianPosition():
                poses, start = _rows(commands), _measured(observation, keys.of_arm(keys.EE_POSE, arm))
                place, turn = (None, None) if start is None else (start[:3], start[3:])
                return [
                    Course(PLACE, poses[:, :3], times, place),
                    Course(TURN, poses[:, 3:], times, turn),
                ]
            case JointPosition():
                start = _measured(observation, keys.of_arm(keys.JOINT_POSITION, arm))
                return [Course(JOINTS, _rows(commands), times, start)]
            case JointDelta():
                start = _measured(observation, keys.of_arm(keys.JOINT_POSITION, arm))
                return [Ways(JOINTS, _rows(commands), self._spans(times), start)]
            case _:
                return []

    def _spans(self, times_sec: Floats) -> Floats:
        """How long each step has for its way, (n,) s: until the next one, a control step at most."""
        return np.minimum(np.append(np.diff(times_sec), self._step_sec), self._step_sec)

    def _stated(self, arm: str) -> Arm | None:
        return self._contract.embodiment.by_name[arm] if self._contract.embodiment else None


def motion_limits(quantity: Quantity, driver: DriverConfig, arm: Arm | None) -> MotionLimits:
    """The driver's limits; where it has none for the joints' speed, ``AHEAD`` times what the arm states."""
    if quantity is PLACE:
        return _limits(driver.max_jump, driver.max_speed, driver.max_acceleration)
    if quantity is TURN:
        return _limits(driver.max_turn_jump, driver.max_turn_speed, driver.max_turn_acceleration)
    speed: float | Floats | None = driver.max_joint_speed
    if speed is None:
        speed = AHEAD * np.array(arm.max_speed) if arm and arm.max_speed else UNKNOWN_JOINT_SPEED
    return _limits(driver.max_joint_jump, speed, driver.max_joint_acceleration)


def told_instead(step: ActionStep, arm: str, command: Command) -> ActionStep:
    """The step with another command for one arm; the very same if it has that command already."""
    action = step.arms[arm]
    if command is action.command:
        return step
    return replace(step, arms={**step.arms, arm: replace(action, command=command)})


def stretch_of(chunk: Sequence[ActionStep], arm: str) -> Stretch:
    """What one arm is told, up to a last step that sends it back to its start pose."""
    steps = chunk[:-1] if _ends_in_reset(chunk, arm) else chunk
    return Stretch([step.arms[arm].command for step in steps], np.array([step.timestamp for step in steps], np.float64))


def _ends_in_reset(chunk: Sequence[ActionStep], arm: str) -> bool:
    return bool(chunk) and isinstance(chunk[-1].arms[arm].command, Reset)


def _require_one_kind(chunk: Sequence[ActionStep], arm: str) -> None:
    kinds = [command.kind for command in stretch_of(chunk, arm).commands]
    number = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), None)
    if number is not None:
        who = f"arm {arm}" if arm else "the arm"
        found = f"{who} is told {kinds[number]} after {kinds[number - 1]}"
        raise UnsafeChunk(said_fault(chunk, number, f"{found}, expected one kind of command within a chunk"))


def _limits(*values: float | Floats | None) -> MotionLimits:
    return MotionLimits(*(np.atleast_1d(np.inf if value is None else value).astype(np.float64) for value in values))


def _rows(commands: Sequence[Command]) -> Floats:
    """The commands' numbers, (n, v)."""
    return np.stack([_numbers(command) for command in commands])


def _numbers(command: Command) -> Floats:
    match command:
        case CartesianPosition(values) | JointPosition(values) | JointDelta(values):
            return values
        case _:
            return np.zeros(0)


def _measured(observation: Mapping[str, Any], key: str) -> Floats | None:
    return np.asarray(observation[key], np.float64) if key in observation else None


def _within_joints(course: Course | Ways, values: Floats, arm: Arm | None) -> Floats:
    """Joint positions (n, v) within the arm's limits, or ways whose sums are; a value that need not change stays."""
    if arm is None or course.quantity is not JOINTS:
        return values
    lows, highs = joint_limits(arm)
    if isinstance(course, Course):
        return np.clip(values, lows - LIMIT_SLACK_RAD, highs + LIMIT_SLACK_RAD)
    if course.start is None:
        return values
    slack = _slack(course.start, arm)
    sums = np.vstack([course.start, course.start + np.cumsum(values, axis=0)])
    inside = np.clip(sums, lows - slack, highs + slack)
    changed = inside != sums
    return np.where(changed[1:] | changed[:-1], np.diff(inside, axis=0), values)


def _slack(start: Floats, arm: Arm) -> Floats:
    """How far beyond its limits each joint may be told to go, (n,) rad; one that is further already may stay there."""
    lows, highs = joint_limits(arm)
    return np.maximum(LIMIT_SLACK_RAD, np.maximum(lows - start, start - highs))


def _sums_fault(course: Course | Ways, arm: Arm | None) -> tuple[int, str] | None:
    """The first step whose way, after those before it from where the robot is measured, leads beyond a joint's limits,
    and how."""
    if arm is None or not isinstance(course, Ways) or course.start is None:
        return None
    sums = course.start + np.cumsum(course.values, axis=0)
    slack = _slack(course.start, arm) + SUM_ROUNDING
    faults = ((number, joints_fault(positions, arm, slack)) for number, positions in enumerate(sums))
    return next(((number, fault) for number, fault in faults if fault), None)


def _rebuilt(commands: Sequence[Command], parts: Sequence[Floats]) -> Sequence[Command]:
    """The commands with other numbers, those that have the same numbers themselves. ``parts``: (n, v) each, side by
    side."""
    if not parts:
        return commands
    rows = zip(commands, np.hstack(parts), strict=True)
    return [old if np.array_equal(_numbers(old), new) else type(old)(new) for old, new in rows]


def _said(quantity: Quantity, found: Excess, arm: str, stated: Arm | None) -> str:
    who = quantity.name
    if quantity is JOINTS:
        who = f"joint '{stated.joints[found.part]}'" if stated else f"joint {found.part}"
    told = f"{who} {found.does}, expected at most {found.allowed:.3g} {found.unit} (driver.{found.key})"
    return f"arm {arm}: {told}" if arm else told
