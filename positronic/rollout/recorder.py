"""One robot's ticks into one raw episode, the same for demonstrations and for rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from positronic import keys
from positronic.commands import ActionStep, CartesianPosition, Command, JointDelta, JointPosition, Reset
from positronic.hardware.robot import RobotContract
from positronic.raw.writer import EpisodeWriter


class EpisodeRecorder:
    """Appends observations, commands and scores to ``writer``, stamped with the robot's time in ns."""

    def __init__(self, writer: EpisodeWriter) -> None:
        self._writer = writer
        self._measured_ns: dict[str, int] = {}

    def tick(
        self,
        time_ns: int,
        observation: Mapping[str, Any],
        step: ActionStep | None = None,
        metrics: Mapping[str, float] | None = None,
        stamps_ns: Mapping[str, int] | None = None,
    ) -> None:
        """Record what was seen at ``time_ns`` and what was commanded then, None if nothing was.

        ``stamps_ns``: when signals were measured, if not at ``time_ns``. A signal that was not measured again is not
        recorded again; one that was measured before the episode gets the stamp of its start.
        """
        for name, value in observation.items():
            measured_ns = max((stamps_ns or {}).get(name, time_ns), 0)
            if measured_ns > self._measured_ns.get(name, -1):  # a stale signal must look stale in the recording too
                self._writer.append(name, value, measured_ns)
                self._measured_ns[name] = measured_ns
        for name, value in (metrics or {}).items():
            self._writer.append(name, value, time_ns)
        for arm, action in step.arms.items() if step else ():
            name, value = command_signal(action.command)
            self._writer.append(keys.of_arm(name, arm), value, time_ns)
            if action.target_grip is not None:
                self._writer.append(keys.of_arm(keys.TARGET_GRIP, arm), float(action.target_grip), time_ns)

    def statics(self, values: Mapping[str, Any]) -> None:
        """Record what is true for the whole episode."""
        for key, value in values.items():
            self._writer.set_static(key, value)


def command_signal(command: Command) -> tuple[str, Any]:
    """The raw signal that a command is recorded as, by the name that an only arm has, and its value."""
    match command:
        case CartesianPosition(pose):
            return keys.COMMAND_POSE, pose
        case JointPosition(positions):
            return keys.COMMAND_JOINTS, positions
        case JointDelta(velocities):
            return keys.COMMAND_JOINT_DELTAS, velocities
        case Reset():
            return keys.COMMAND_RESET, 1


def robot_statics(contract: RobotContract) -> dict[str, Any]:
    """Which robot a recording is of, if the robot says so: then it converts again without being told."""
    return {keys.EMBODIMENT: contract.embodiment.to_dict()} if contract.embodiment else {}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``(name, value)`` of every leaf, the names of maps within maps joined by dots."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
