"""Does this policy fit this robot? The question is asked before anything moves, and a difference is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, keys
from positronic.codecs.limits import step_fault
from positronic.codecs.parts import MEASURED, PARTS, POSE_SIZE, split_feature
from positronic.commands import ActionStep, ArmAction, CartesianPosition, JointDelta, JointPosition
from positronic.embodiments.embodiment import Arm, differing_rows, same_quantities
from positronic.errors import ConventionError, PositronicError, did_you_mean, listing
from positronic.hardware.robot import RobotContract, said_arms
from positronic.rollout.config import STOP

STATE, ACTION = "state", "action"  # groups of canonical features, as a policy's meta names them
CAMERA = "camera "
LIMIT_SLACK_RAD = 0.1  # beyond a joint's limits: a servo is pulled to its stop, and calibrations differ


def check_policy(meta: Mapping[str, Any], contract: RobotContract) -> None:
    """Compare a policy's meta with a robot: what it needs of the robot by name (``keys.META_ROBOT``), and each
    canonical feature with its convention (``keys.META_CONVENTIONS``).

    A policy that says neither is checked at its first chunk (``check_chunk``). Raises ConventionError, with one line
    for each joint order, unit, gripper, role or signal that the robot lacks or means differently, and for a command
    that it does not take.
    """
    features = meta.get(keys.META_CONVENTIONS) or {}
    problems = _robot_problems(meta.get(keys.META_ROBOT) or {}, contract)
    if problems:  # which say already that an arm is not there
        features = [name for name in features if _is_of_robot(name, contract)]
    problems += [problem for name in features for problem in _problems(name, contract)]
    if problems:
        who = meta.get(keys.META_EXPERIMENT) or meta.get(keys.META_TYPE, "?")
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConventionError(
            f"The policy '{who}' does not fit the robot '{contract.name}':\n{lines}\n"
            "Take a checkpoint whose codec uses what this robot has, or another hardware=."
            f"{f' {contract.hint}' if contract.hint else ''}"
        )


GO_ON_WITH = f"driver.on_unsafe_chunk={STOP}"  # where an unsafe chunk has ended a run


class UnsafeChunk(PositronicError):  # noqa: N818  (it names the state of a chunk)
    """A chunk that the robot cannot follow, or not without harm. Nothing of it was played, or where chunks
    overlap, nothing from the named step on."""


def check_chunk(chunk: Sequence[ActionStep], contract: RobotContract, with_limits: bool = True) -> None:
    """Check each step of a chunk, before the first one is played. ``with_limits``: those that the
    robot states of its joints, too.

    Raises ConventionError if it is for other arms than the robot's, or the robot does not take one of its commands;
    PositronicError for a step of another number of joints, or without a target for a gripper; UnsafeChunk for a step
    that is out of reach or beyond a joint's limits, and for a gripper's target that is no finite number.
    """
    _require_arms(chunk, contract)
    kinds = {action.command.kind for step in chunk for action in step.arms.values()} - contract.commands
    if kinds:
        raise ConventionError(
            f"The policy commands {listing(kinds)}, which the robot '{contract.name}' does not take; it takes"
            f" {listing(contract.commands)}. Take a checkpoint with another codec, or another hardware=."
        )
    for number, step in enumerate(chunk):  # all of them: half a chunk must not be played before the fault is met
        odd = _arm_fault(step, contract, _size_fault)
        if odd:
            raise PositronicError(said_fault(chunk, number, odd))
        unsafe = step_fault(step) or _arm_fault(step, contract, _grip_number_fault)
        unsafe = unsafe or (_arm_fault(step, contract, _limit_fault) if with_limits else None)
        if unsafe:
            raise UnsafeChunk(said_fault(chunk, number, unsafe))
        lacks = _arm_fault(step, contract, _grip_fault)
        if lacks:
            raise PositronicError(said_fault(chunk, number, lacks))


def said_fault(chunk: Sequence[ActionStep], number: int, fault: str) -> str:
    """What is wrong with a chunk because of its step ``number``."""
    kinds = {action.command.kind for action in chunk[number].arms.values()}
    return (
        f"Step {number} of {len(chunk)} that the policy commands ({listing(kinds)}): {fault}. Nothing of this"
        " chunk was played. Look at the checkpoint, its statistics and its codec: units, rotation, grip."
    )


def _require_arms(chunk: Sequence[ActionStep], contract: RobotContract) -> None:
    for number, step in enumerate(chunk):
        if step.arms.keys() != set(contract.arms):
            raise ConventionError(
                f"Step {number} of {len(chunk)} that the policy commands is for {said_arms(step.arms)}; the robot"
                f" '{contract.name}' has {said_arms(contract.arms)}. Take a checkpoint that was trained for this robot,"
                " or another hardware=."
            )


ArmFault = Callable[[ArmAction, str, RobotContract], str | None]


def _arm_fault(step: ActionStep, contract: RobotContract, fault_of: ArmFault) -> str | None:
    found = ((arm, fault_of(action, arm, contract)) for arm, action in step.arms.items())
    return next((f"arm {arm}: {fault}" if arm else fault for arm, fault in found if fault), None)


def _grip_fault(action: ArmAction, arm: str, contract: RobotContract) -> str | None:
    if action.target_grip is None and contract.has_gripper(arm):
        return f"it has no '{keys.of_arm(keys.TARGET_GRIP, arm)}', and there is a gripper"
    return None


def _grip_number_fault(action: ArmAction, arm: str, contract: RobotContract) -> str | None:
    if action.target_grip is None or math.isfinite(action.target_grip):
        return None
    return f"gripper at {action.target_grip:g}, a finite number was expected"


def _limit_fault(action: ArmAction, arm: str, contract: RobotContract) -> str | None:
    if contract.embodiment is None or not isinstance(action.command, JointPosition):
        return None
    return joints_fault(action.command.positions, contract.embodiment.by_name[arm])


def joints_fault(
    positions: NDArray[np.float64], stated: Arm, slack_rad: NDArray[np.float64] | None = None
) -> str | None:
    """Which joint's position, of (n,) rad, is beyond its limits by more than ``slack_rad`` (n,), 0.1 rad if None. None
    if none is."""
    lows, highs = joint_limits(stated)
    slacks = np.full(len(lows), LIMIT_SLACK_RAD) if slack_rad is None else slack_rad
    for name, value, low, high, slack in zip(stated.joints, positions, lows, highs, slacks, strict=True):
        if not low - slack <= value <= high + slack:
            return f"joint '{name}' at {value:.4g} rad, expected {low:.4g} to {high:.4g} rad"
    return None


def joint_limits(arm: Arm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each joint's range begins and ends, (n,) rad; infinite where that is unknown, or the joint turns without
    end."""
    unknown = [None] * len(arm.joints)
    lows = [-np.inf if low is None else low for low in arm.lower or unknown]
    highs = [np.inf if high is None else high for high in arm.upper or unknown]
    return np.array(lows), np.array(highs)


def joints_with_limits(contract: RobotContract) -> dict[str, NDArray[np.bool_]]:
    """By arm, for each joint (n,), whether it has a limit; the others may turn without end. Empty if the robot states
    nothing of its joints."""
    stated = contract.embodiment.by_name if contract.embodiment else {}
    return {name: np.isfinite(joint_limits(arm)).any(axis=0) for name, arm in stated.items()}


def _size_fault(action: ArmAction, arm: str, contract: RobotContract) -> str | None:
    joints = contract.signals.get(keys.of_arm(keys.JOINT_POSITION, arm))
    if contract.embodiment:
        joints = (len(contract.embodiment.by_name[arm].joints),)
    match action.command:
        case CartesianPosition(values):
            expected: tuple[int, ...] | None = (POSE_SIZE,)
        case JointPosition(values) | JointDelta(values):
            expected = joints
        case _:
            return None
    shape = np.shape(values)
    if expected is not None and shape != expected:
        return f"{expected[0]} numbers were expected, found shape {shape}"
    return None if np.all(np.isfinite(values)) else f"finite numbers were expected, found {np.asarray(values).tolist()}"


def _robot_problems(needed: Mapping[str, str], contract: RobotContract) -> list[str]:
    """Both sides of what the policy's robot and this one have differently. A camera that is not there is found as a
    signal."""
    if not needed or contract.embodiment is None:
        return []
    rows = differing_rows(needed, same_quantities(needed, contract.embodiment))
    return [
        f"{row}: the policy has {mine}; the robot has {theirs}"
        for row, mine, theirs in rows
        if not row.startswith(CAMERA) or keys.IMAGE_PREFIX + row.removeprefix(CAMERA) in contract.signals
    ]


def _is_of_robot(feature: str, contract: RobotContract) -> bool:
    group, arm, _ = split_feature(feature)
    return group not in (STATE, ACTION) or arm in contract.arms


def _problems(feature: str, contract: RobotContract) -> list[str]:
    group, arm, part = split_feature(feature)
    if group == ACTION:
        return _action_problems(part, contract)
    if group == STATE:
        return _signal_problems(keys.of_arm(MEASURED.get(part, feature), arm), contract)
    return _signal_problems(feature, contract) if feature.startswith(keys.IMAGE_PREFIX) else []


def _action_problems(part: str, contract: RobotContract) -> list[str]:
    command = PARTS[part].command_type if part in PARTS else None
    if command is None or command.kind in contract.commands:
        return []
    return [f"it commands '{command.kind}', the robot takes {listing(contract.commands)}"]


def _signal_problems(signal: str, contract: RobotContract) -> list[str]:
    if signal not in contract.signals:
        hint = did_you_mean(signal, contract.signals)
        return [f"it needs '{signal}', the robot has {listing(contract.signals)}.{hint}"]
    expected, found = conventions.MEASURED.get(keys.split_arm(signal)[0]), contract.conventions.get(signal)
    if expected and found and str(expected) != found:
        return [f"'{signal}': codecs read it as {expected}; the robot means {found}"]
    return []
