"""Does this policy fit this robot? The question is asked before anything moves, and a difference is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from positronic import conventions, keys
from positronic.codecs.limits import step_fault
from positronic.codecs.parts import MEASURED, PARTS, POSE_SIZE, split_feature
from positronic.commands import ActionStep, CartesianPosition, Command, JointDelta, JointPosition
from positronic.errors import ConventionError, PositronicError, did_you_mean, listing
from positronic.hardware.robot import RobotContract

STATE, ACTION = "state", "action"  # groups of canonical features, as a policy's meta names them


def check_policy(meta: Mapping[str, Any], contract: RobotContract) -> None:
    """Compare a policy's meta with a robot (``keys.META_CONVENTIONS``: canonical feature -> convention).

    A policy without conventions is checked at its first chunk (``check_chunk``). Raises ConventionError, with one line
    for each signal that the robot lacks or means differently, and for a command that it does not take.
    """
    features = meta.get(keys.META_CONVENTIONS) or {}
    problems = [problem for name in features for problem in _problems(name, contract)]
    if problems:
        who = meta.get(keys.META_EXPERIMENT) or meta.get(keys.META_TYPE, "?")
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConventionError(
            f"The policy '{who}' does not fit the robot '{contract.name}':\n{lines}\n"
            "Take a checkpoint whose codec uses what this robot has, or another hardware=."
        )


def check_chunk(chunk: Sequence[ActionStep], contract: RobotContract) -> None:
    """Check the chunk as a whole, before its first step is played.

    Raises ConventionError if the robot does not take one of its commands. Raises PositronicError for a step that no
    robot can follow: out of reach, beyond the joints' limits, or of another number of joints.
    """
    kinds = {action.command.kind for step in chunk for action in step.arms.values()} - contract.commands
    if kinds:
        raise ConventionError(
            f"The policy commands {listing(kinds)}, which the robot '{contract.name}' does not take; it takes"
            f" {listing(contract.commands)}. Take a checkpoint with another codec, or another hardware=."
        )
    for number, step in enumerate(chunk):  # all of them: half a chunk must not be played before the fault is met
        fault = _size_fault(step, contract) or step_fault(step)
        if fault:
            kinds = {action.command.kind for action in step.arms.values()}
            raise PositronicError(
                f"Step {number} of {len(chunk)} that the policy commands ({listing(kinds)}): {fault}. Nothing of this"
                " chunk was played. Look at the checkpoint, its statistics and its codec: units, rotation, grip."
            )


def _size_fault(step: ActionStep, contract: RobotContract) -> str | None:
    found = ((arm, _command_size_fault(action.command, arm, contract)) for arm, action in step.arms.items())
    return next((f"arm {arm}: {fault}" if arm else fault for arm, fault in found if fault), None)


def _command_size_fault(command: Command, arm: str, contract: RobotContract) -> str | None:
    joints = contract.signals.get(keys.of_arm(keys.JOINT_POSITION, arm))
    match command:
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
