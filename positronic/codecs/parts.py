"""The parts that states and actions are made of: one class for each kind of quantity.

To add a kind of part, add one class to ``PARTS``. It says its raw signals, its size, how it is encoded, what a policy's
numbers command, and which numbers are possible.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, geometry, keys
from positronic.codecs import limits
from positronic.codecs.limits import Limit
from positronic.commands import CartesianPosition, Command, JointDelta, JointPosition
from positronic.conventions import Convention
from positronic.embodiments.embodiment import Arm
from positronic.errors import PositronicError

Floats = NDArray[np.float64]

MAX_JOINT_DELTA_RAD = 0.2  # DROID's actions are joint velocities in -1..1; 1 moves a joint this far in one 1/15 s step
ROTATION_NAMES = {
    "quat_wxyz": ("qw", "qx", "qy", "qz"),
    "rot6d_rows": ("r00", "r01", "r02", "r10", "r11", "r12"),
    "rotvec": ("rx", "ry", "rz"),
}


POSE_SIZE = 7  # xyz and a quaternion
REFERENCE_DECIMALS = 6
TOWARD = {"quat_wxyz": geometry.quat_toward, "rotvec": geometry.rotvec_toward}  # rot6d has one number a rotation


@dataclass(frozen=True)
class Part(ABC):
    """A quantity of one arm, in the layout of one codec.

    ``measured``, ``commanded``: its raw signals by the names that an only arm has, None if there is none.
    ``command_type``: what a policy commands with it, None if it does not move an arm. ``raw_limits``: which raw samples
    are possible. ``agreement``: limits of a measured and a commanded sample side by side.
    """

    arm: Arm

    name: ClassVar[str]
    measured: ClassVar[str | None] = None
    commanded: ClassVar[str | None] = None
    command_type: ClassVar[type[Command] | None] = None
    raw_limits: ClassVar[tuple[Limit, ...]] = ()
    agreement: ClassVar[tuple[Limit, ...]] = ()
    is_gripper: ClassVar[bool] = False

    @classmethod
    def of(cls, arm: Arm, rotation: str) -> Part:
        """The part of ``arm`` in a codec whose poses have ``rotation``."""
        return cls(arm)

    @classmethod
    def is_of(cls, arm: Arm) -> bool:
        """Whether the arm has this quantity."""
        return True

    @property
    def raw_size(self) -> int:
        """Numbers of a raw sample."""
        return len(self.arm.joints)

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
        """One name per encoded number: ``ee_pose.x``, ``grip``; with several arms ``left.ee_pose.x``, ``left.grip``."""
        return [f"{self.arm.name}.{name}" if self.arm.name else name for name in self.elements]

    @property
    @abstractmethod
    def elements(self) -> list[str]:
        """The same without the arm."""

    @property
    def has_two_numbers(self) -> bool:
        """Whether one state of the robot can be written in two ways, as one rotation by q and -q."""
        return False

    @property
    def has_reference_rotation(self) -> bool:
        """Whether it is known which of the two ways is used."""
        return False

    def toward(self, reference_rotation: Sequence[float] | None) -> Part:
        """The same part, writing a rotation in the way that is nearer to the reference. None: as it was recorded."""
        return self

    def signed_quats(self, rows: Floats) -> Floats:
        """Raw samples (T, raw_size) -> (N, 4): the usable rotations, each by the one of q and -q that stands for what
        is encoded without a reference."""
        raise NotImplementedError(f"{self.name} has one number for each state")

    def reference_of(self, quat_wxyz: Floats) -> tuple[float, ...]:
        """The reference rotation that a direction (4,) stands for; its sign counts."""
        raise NotImplementedError(f"{self.name} has one number for each state")

    def sides(self, quats: Floats) -> Floats:
        """(N, 4) signed -> (N, d + 1): a reference r encodes each as it is signed, if ``sides @ [*r, 1] > 0``."""
        raise NotImplementedError(f"{self.name} has one number for each state")

    def count_turned(self, rows: Floats) -> int:
        """How many raw samples (T, raw_size) are encoded otherwise than without a reference."""
        return 0

    @abstractmethod
    def convention(self, label: str) -> Convention:
        """What encoded numbers mean."""

    def at_rest(self) -> Floats:
        """A raw sample (raw_size,) that a robot could measure."""
        return np.zeros(self.raw_size)

    def encode(self, rows: Floats) -> Floats:
        """Raw samples (T, raw_size) -> (T, size). Raises PositronicError for what means nothing."""
        return rows

    def commands(self, rows: Floats) -> Sequence[Command]:
        """A policy's numbers (T, size) -> T commands, whose arrays belong to them alone."""
        raise NotImplementedError(f"{self.name} does not move an arm")


@dataclass(frozen=True)
class EePose(Part):
    """Pose of the end effector; ``rotation`` names its layout.

    ``reference_rotation``, in that layout, decides between q and -q, and between the two rotation vectors of a rotation
    near pi. It is None in datasets and checkpoints of older versions; there rotations stay as they were recorded.
    """

    rotation: str
    reference_rotation: tuple[float, ...] | None = None

    name = "ee_pose"
    measured = keys.EE_POSE
    commanded = keys.COMMAND_POSE
    command_type = CartesianPosition
    raw_limits = (limits.REACH, limits.RAW_QUAT)
    agreement = (limits.SAME_ROTATION, limits.SAME_PLACE)

    @classmethod
    def of(cls, arm: Arm, rotation: str) -> Part:
        return cls(arm, rotation)

    @classmethod
    def is_of(cls, arm: Arm) -> bool:
        return arm.ee_frame is not None

    @property
    def raw_size(self) -> int:
        return POSE_SIZE

    @property
    def size(self) -> int:
        return 3 + geometry.ROTATION_DIMS[self.rotation]

    @property
    def limits(self) -> tuple[Limit, ...]:
        return limits.REACH, limits.ENCODED_ROTATION[self.rotation]

    @property
    def elements(self) -> list[str]:
        return [f"{self.name}.{name}" for name in ("x", "y", "z", *ROTATION_NAMES[self.rotation])]

    def convention(self, label: str) -> Convention:
        return conventions.pose(self.rotation, label)

    def at_rest(self) -> Floats:
        return np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    @property
    def has_two_numbers(self) -> bool:
        return self.rotation in TOWARD

    @property
    def has_reference_rotation(self) -> bool:
        return self.reference_rotation is not None

    def toward(self, reference_rotation: Sequence[float] | None) -> Part:
        known = self.has_two_numbers and reference_rotation is not None
        return replace(self, reference_rotation=tuple(reference_rotation) if known else None)

    def encode(self, rows: Floats) -> Floats:
        return self._turned(geometry.pose_to(self.rotation, rows))

    def commands(self, rows: Floats) -> list[Command]:
        poses = geometry.pose_from(self.rotation, rows)
        # A policy may answer -q for q: the robot is told the row of numbers that its recordings have.
        poses = self._turned(poses) if self.rotation == "quat_wxyz" else poses
        return [CartesianPosition(pose.copy()) for pose in poses]

    def signed_quats(self, rows: Floats) -> Floats:
        if rows.ndim != 2 or rows.shape[1] != self.raw_size:
            raise PositronicError(f"Expected {self.raw_size} numbers a sample, found shape {rows.shape[1:]}.")
        quats = rows[np.isfinite(rows).all(axis=1), 3:]
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(quats, axis=1)
        quats = geometry.quat_normalise(quats[(norms > geometry.MIN_NORM) & np.isfinite(norms)])
        if self.rotation == "rotvec":  # which has no sign of its own: it comes from the quaternion with w >= 0
            quats = np.where(quats[:, :1] < 0, -quats, quats)
        return quats

    def reference_of(self, quat_wxyz: Floats) -> tuple[float, ...]:
        """Rounded, so that a sum's last bits, which differ between machines, do not change a dataset's manifest."""
        reference = _long_rotvecs(quat_wxyz[None])[0] if self.rotation == "rotvec" else quat_wxyz
        return tuple(round(float(value), REFERENCE_DECIMALS) + 0.0 for value in reference)

    def sides(self, quats: Floats) -> Floats:
        if self.rotation != "rotvec":
            return np.hstack([quats, np.zeros((len(quats), 1))])
        rotvecs = _long_rotvecs(quats)
        angles = np.linalg.norm(rotvecs, axis=1, keepdims=True)
        return np.hstack([rotvecs, angles * (np.pi - angles)]) / np.maximum(angles, geometry.MIN_NORM)

    def count_turned(self, rows: Floats) -> int:
        plain = geometry.pose_to(self.rotation, rows)
        return int((self._turned(plain) != plain).any(axis=-1).sum())

    def _turned(self, poses: Floats) -> Floats:
        if self.reference_rotation is None:
            return poses
        turned = TOWARD[self.rotation](poses[..., 3:], self.reference_rotation)
        return np.concatenate([poses[..., :3], turned], axis=-1)


def _numbered(part: Part) -> list[str]:
    return [f"{part.name}.{number}" for number in range(part.size)]


def _long_rotvecs(quats: Floats) -> Floats:
    """(N, 4) unit quaternions -> (N, 3) with an angle of 0 to 2 pi: the sign counts."""
    sine = np.linalg.norm(quats[:, 1:], axis=1, keepdims=True)
    return quats[:, 1:] * (2 * np.arctan2(sine, quats[:, :1]) / np.maximum(sine, geometry.MIN_NORM))


@dataclass(frozen=True)
class JointPositions(Part):
    """Absolute joint positions, rad."""

    name = "joint_position"
    measured = keys.JOINT_POSITION
    commanded = keys.COMMAND_JOINTS
    command_type = JointPosition
    raw_limits = (limits.JOINTS,)

    @property
    def elements(self) -> list[str]:
        return _numbered(self) if self.arm.numbered else list(self.arm.joints)

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

    @property
    def elements(self) -> list[str]:
        return _numbered(self)

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
    raw_limits = (limits.GRIP,)
    is_gripper = True

    @classmethod
    def is_of(cls, arm: Arm) -> bool:
        return arm.gripper is not None

    @property
    def raw_size(self) -> int:
        return 1

    @property
    def elements(self) -> list[str]:
        return [self.name]

    def convention(self, label: str) -> Convention:
        return conventions.gripper(label)


PARTS: dict[str, type[Part]] = {part.name: part for part in (EePose, JointPositions, JointDeltas, Grip)}
MEASURED = {name: part.measured for name, part in PARTS.items() if part.measured}
ARMS = tuple(name for name, part in PARTS.items() if part.command_type)
GRIPPER = Grip.name


def split_feature(name: str) -> tuple[str, str, str]:
    """``state.left.joint_position`` -> ``("state", "left", "joint_position")``; the only arm's name is empty."""
    group, _, rest = name.partition(".")
    arm, _, part = rest.rpartition(".")
    return group, arm, part
