"""The parts that states and actions are made of: one class for each kind of quantity.

A new kind of part is one more class in ``PARTS``: its raw signals, its size, what encodes it, what a policy's numbers
command, and what its numbers can be at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, geometry, keys
from positronic.codecs import limits
from positronic.codecs.limits import Limit
from positronic.commands import CartesianPosition, Command, JointDelta, JointPosition
from positronic.conventions import Convention

Floats = NDArray[np.float64]

NUM_JOINTS = 7  # Franka, and every public Positronic recording
MAX_JOINT_DELTA_RAD = 0.2  # DROID's actions are joint velocities in -1..1; 1 moves a joint this far in one 1/15 s step
ROTATION_NAMES = {
    "quat_wxyz": ("qw", "qx", "qy", "qz"),
    "rot6d_rows": ("r00", "r01", "r02", "r10", "r11", "r12"),
    "rotvec": ("rx", "ry", "rz"),
}


@dataclass(frozen=True)
class Part(ABC):
    """A quantity in the layout of one codec.

    ``measured``, ``commanded``: its raw signals, None where there is none. ``raw_size``: numbers in a raw sample.
    ``command_type``: what a policy commands with it, None for what does not move an arm. ``raw_limits``: what raw
    samples can be.
    """

    name: ClassVar[str]
    measured: ClassVar[str | None] = None
    commanded: ClassVar[str | None] = None
    raw_size: ClassVar[int] = NUM_JOINTS
    command_type: ClassVar[type[Command] | None] = None
    raw_limits: ClassVar[tuple[Limit, ...]] = ()
    is_gripper: ClassVar[bool] = False

    @classmethod
    def in_layout(cls, rotation: str) -> Part:
        """The part of a codec whose poses have ``rotation``."""
        return cls()

    @property
    def size(self) -> int:
        """Numbers of an encoded sample."""
        return self.raw_size

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What encoded samples can be."""
        return self.raw_limits

    @property
    def element_names(self) -> list[str]:
        """One name per encoded number: ``ee_pose.x``, ``joint_position.0``, ``grip``."""
        return [f"{self.name}.{i}" for i in range(self.size)] if self.size > 1 else [self.name]

    @abstractmethod
    def convention(self, label: str) -> Convention:
        """What encoded numbers mean."""

    def encode(self, rows: Floats) -> Floats:
        """Raw samples (T, raw_size) -> (T, size). Raises PositronicError for what means nothing."""
        return rows

    def commands(self, rows: Floats) -> Sequence[Command]:
        """A policy's numbers (T, size) -> T commands, whose arrays belong to them alone."""
        raise NotImplementedError(f"{self.name} does not move an arm")


@dataclass(frozen=True)
class EePose(Part):
    """Pose of the end effector; ``rotation`` names its layout."""

    rotation: str

    name = "ee_pose"
    measured = keys.EE_POSE
    commanded = keys.COMMAND_POSE
    raw_size = 7
    command_type = CartesianPosition
    raw_limits = (limits.REACH, limits.RAW_QUAT)

    @classmethod
    def in_layout(cls, rotation: str) -> Part:
        return cls(rotation)

    @property
    def size(self) -> int:
        return 3 + geometry.ROTATION_DIMS[self.rotation]

    @property
    def limits(self) -> tuple[Limit, ...]:
        return limits.REACH, limits.ENCODED_ROTATION[self.rotation]

    @property
    def element_names(self) -> list[str]:
        return [f"{self.name}.{name}" for name in ("x", "y", "z", *ROTATION_NAMES[self.rotation])]

    def convention(self, label: str) -> Convention:
        return conventions.pose(self.rotation, label)

    def encode(self, rows: Floats) -> Floats:
        return geometry.pose_to(self.rotation, rows)

    def commands(self, rows: Floats) -> list[Command]:
        return [CartesianPosition(pose.copy()) for pose in geometry.pose_from(self.rotation, rows)]


@dataclass(frozen=True)
class JointPositions(Part):
    """Absolute joint positions, rad."""

    name = "joint_position"
    measured = keys.JOINT_POSITION
    commanded = keys.COMMAND_JOINTS
    command_type = JointPosition
    raw_limits = (limits.JOINTS,)

    def convention(self, label: str) -> Convention:
        return conventions.joints(label)

    def commands(self, rows: Floats) -> list[Command]:
        return [JointPosition(row.copy()) for row in rows]


@dataclass(frozen=True)
class JointDeltas(Part):
    """DROID's joint velocities: -1..1 of the largest step, clipped there when they are played."""

    name = "joint_delta"
    commanded = keys.COMMAND_JOINT_DELTAS
    command_type = JointDelta

    def convention(self, label: str) -> Convention:
        return conventions.joint_deltas(label)

    def commands(self, rows: Floats) -> list[Command]:
        return [JointDelta(row) for row in np.clip(rows, -1.0, 1.0) * MAX_JOINT_DELTA_RAD]


@dataclass(frozen=True)
class Grip(Part):
    """Opening of the gripper."""

    name = "grip"
    measured = keys.GRIP
    commanded = keys.TARGET_GRIP
    raw_size = 1
    raw_limits = (limits.GRIP,)
    is_gripper = True

    def convention(self, label: str) -> Convention:
        return conventions.gripper(label)


PARTS: dict[str, type[Part]] = {part.name: part for part in (EePose, JointPositions, JointDeltas, Grip)}
MEASURED = {name: part.measured for name, part in PARTS.items() if part.measured}
ARMS = tuple(name for name, part in PARTS.items() if part.command_type)
GRIPPER = Grip.name
