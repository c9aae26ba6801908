"""What a sample of each signal must be, by the robot and the declared cameras.

It is checked when it is recorded, as nobody can mend it later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from positronic import keys
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.raw.kinds import POSE_SIZE, UNIT_SLACK
from positronic.utils.fields import PIXELS

JOINT_KEYS = (keys.JOINT_POSITION, keys.COMMAND_JOINTS)
RATE_KEYS = (keys.JOINT_VELOCITY, keys.COMMAND_JOINT_DELTAS)
POSE_KEYS = (keys.EE_POSE, keys.COMMAND_POSE)
GRIP_KEYS = (keys.GRIP, keys.TARGET_GRIP)
STATICS = (keys.TASK, keys.EMBODIMENT, keys.JOINT_NAMES)
NAME = re.compile(r"[A-Za-z]\w*(\.\w+)*(?<!\.frames)")
UINT8 = np.dtype(np.uint8)  # with the type itself, a comparison would take ten times as long
BEYOND_LIMITS = np.pi / 2  # rad; calibrations differ by less, and degrees are soon further away


class RefusedError(Exception):
    """Why a sample is refused, without the signal's name."""


class Rule(Protocol):
    """Of one signal."""

    def take(self, value: Any) -> np.ndarray:
        """The sample as it is recorded. Raises RefusedError."""
        ...


@dataclass(frozen=True)
class Picture:
    """RGB, uint8, (H, W, 3)."""

    shape: tuple[int, int, int]

    def take(self, value: Any) -> np.ndarray:
        """The frame itself."""
        image = np.asarray(value)
        if image.dtype == UINT8 and image.shape == self.shape:
            return image
        turned = image.ndim == 3 and image.shape == (self.shape[1], self.shape[0], 3)
        hint = " Height comes first, in cameras={<name>: (height, width)} too." if turned else ""
        raise RefusedError(
            f"expected uint8 of shape {self.shape}, red, green, blue, as declared; got {image.dtype} of shape "
            f"{image.shape}.{hint}"
        )


@dataclass(frozen=True)
class Numbers:
    """Finite numbers of one shape, () or (D,)."""

    shape: tuple[int, ...]
    what: str = "numbers, as declared"

    def take(self, value: Any) -> np.ndarray:
        """A copy, as the caller may use its buffer again."""
        return _finite(value, self.shape, self.what)


@dataclass(frozen=True)
class Joints:
    """One number for each joint of an arm. ``is_position``: in rad, within the joint's limits or near them."""

    arm: Arm
    is_position: bool

    def take(self, value: Any) -> np.ndarray:
        """A copy, floating point."""
        names = self.arm.joints
        row = _floats(_finite(value, (len(names),), f"{len(names)} joints: {', '.join(names)}"))
        if self.is_position and self.arm.lower is not None and self.arm.upper is not None:
            self._require_rad(row)
        return row

    def _require_rad(self, row: np.ndarray) -> None:
        limits = zip(self.arm.joints, row.tolist(), self.arm.lower, self.arm.upper, strict=True)
        for name, angle, lower, upper in limits:
            if lower is None or upper is None or lower - BEYOND_LIMITS <= angle <= upper + BEYOND_LIMITS:
                continue
            raise RefusedError(
                f"joint {name} is at {angle:.6g}, and it turns from {lower:.4g} to {upper:.4g} rad. Recordings hold "
                "rad; from degrees: numpy.deg2rad(...)."
            )


@dataclass(frozen=True)
class Pose:
    """x, y, z in m and a unit quaternion, scalar first."""

    def take(self, value: Any) -> np.ndarray:
        """A copy, floating point."""
        row = _floats(_finite(value, (POSE_SIZE,), "x, y, z, qw, qx, qy, qz"))
        norm = float(np.linalg.norm(row[3:].astype(np.float64)))
        if abs(norm - 1) >= UNIT_SLACK:
            raise RefusedError(
                f"expected x, y, z, qw, qx, qy, qz with a unit quaternion; the last four have a norm of {norm:.6g}. "
                "Rotation vectors and Euler angles are converted first."
            )
        return row


@dataclass(frozen=True)
class Grip:
    """An opening, 0 = open, 1 = closed."""

    arm: Arm

    def take(self, value: Any) -> np.ndarray:
        """A copy, floating point."""
        number = _floats(_finite(value, (), "one number, 0 = open, 1 = closed"))
        if not 0 <= number <= 1:
            raise RefusedError(f"expected 0 (open) to 1 (closed), got {number:.6g}. {self._remedy()}")
        return number

    def _remedy(self) -> str:
        gripper = self.arm.gripper
        if (gripper.open, gripper.closed) == (0, 1):
            return "If a reading overshoots, clip it: numpy.clip(value, 0, 1)."
        span = gripper.closed - gripper.open
        return (
            f"This gripper's own numbers are {gripper.open:g} (open) to {gripper.closed:g} (closed), {gripper.unit}: "
            f"numpy.clip((value - {gripper.open:g}) / {span:g}, 0, 1)."
        )


class Rules(Mapping[str, Rule]):
    """By raw key: those of the robot's arms, of the declared cameras, and of ``signals`` of one's own, with shapes.

    Raises PositronicError for a camera that the robot does not have, and for a signal that cannot be declared.
    """

    def __init__(
        self,
        robot: Embodiment,
        cameras: Mapping[str, tuple[int, int]],
        signals: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self._robot = robot
        self._rules: dict[str, Rule] = {}
        for arm in robot.arms:
            self._rules |= _of_arm(arm)
        self.cameras = {keys.IMAGE_PREFIX + name: _shape(name, size) for name, size in cameras.items()}
        self._rules |= {name: Picture(shape) for name, shape in self.cameras.items()}
        for name, shape in (signals or {}).items():
            self._declare(name, shape)

    def __getitem__(self, name: str) -> Rule:
        return self._rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def take(self, name: str, value: Any) -> np.ndarray:
        """A sample of the signal ``name``, as it is recorded. Raises PositronicError for one that is refused."""
        rule = self._rules.get(name)
        if rule is None:
            raise self._unknown(name)
        try:
            return rule.take(value)
        except RefusedError as error:
            raise PositronicError(f"Signal '{name}': {error}") from None

    def camera(self, name: str) -> str:
        """The raw key of a camera itself. Raises PositronicError for one that was not declared."""
        if name in self.cameras:
            return name
        if keys.IMAGE_PREFIX + name in self.cameras:
            raise PositronicError(f"Camera '{name}': expected its raw key, '{keys.IMAGE_PREFIX}{name}'.")
        if name in self._rules:
            raise PositronicError(f"Signal '{name}' is no camera; cameras: {listing(self.cameras)}.")
        raise self._unknown(name)

    def _declare(self, name: str, shape: tuple[int, ...]) -> None:
        taken = name in self._rules or name in STATICS or name.startswith(keys.IMAGE_PREFIX)
        if taken or not NAME.fullmatch(name):
            found = "is taken by the robot, a camera or a note" if taken else "becomes a file's name"
            raise PositronicError(
                f"signals={{'{name}': ...}}: this name {found}. Take another, of letters, digits, '_' and inner dots."
            )
        if not isinstance(shape, tuple) or len(shape) > 1 or not all(isinstance(n, int) and n > 0 for n in shape):
            raise PositronicError(
                f"signals={{'{name}': {shape!r}}}: expected the shape of a sample: () for one number, (6,) for six."
            )
        self._rules[name] = Numbers(shape)

    def _unknown(self, name: str) -> PositronicError:
        near = did_you_mean(name, self._rules)
        if name.startswith(keys.IMAGE_PREFIX):
            camera = name.removeprefix(keys.IMAGE_PREFIX)
            return PositronicError(
                f"Camera '{camera}' was not declared, only {listing(self.cameras)}.{near} Declare it with its height "
                f"and width: positronic.record(..., cameras={{'{camera}': (480, 640)}})."
            )
        plain, arm = keys.split_arm(name)
        if plain in POSE_KEYS and arm in self._robot.by_name:
            return PositronicError(
                f"Signal '{name}': embodiment {self._robot.name} says that its recordings hold no poses. Record the "
                "joints; or, with an embodiment of your own, say what the poses are of: ee_frame: <name>."
            )
        return PositronicError(
            f"Signal '{name}' is none of embodiment {self._robot.name}.{near} Known: {listing(self._rules, limit=20)}. "
            f"One of your own is declared: positronic.record(..., signals={{'{name}': (6,)}})."
        )


def _shape(name: str, size: Any) -> tuple[int, int, int]:
    """Of a camera's frames. Raises PositronicError for a size that H.264 cannot hold."""
    sides = size if isinstance(size, tuple | list) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and 0 < side <= PIXELS and side % 2 == 0 for side in sides):
        raise PositronicError(
            f"cameras={{'{name}': {size!r}}}: expected (height, width) in pixels, both even and at most {PIXELS}, e.g. "
            "(480, 640)."
        )
    return (*sides, 3)


def _of_arm(arm: Arm) -> dict[str, Rule]:
    rules: dict[str, Rule] = {arm.key(key): Joints(arm, is_position=True) for key in JOINT_KEYS}
    rules |= {arm.key(key): Joints(arm, is_position=False) for key in RATE_KEYS}
    rules[arm.key(keys.COMMAND_RESET)] = Numbers((), "one number, 1 at the moment of a reset")
    if arm.ee_frame is not None:
        rules |= {arm.key(key): Pose() for key in POSE_KEYS}
    if arm.gripper is not None:
        rules |= {arm.key(key): Grip(arm) for key in GRIP_KEYS}
    return rules


def _finite(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        row = np.array(value)
    except ValueError:
        raise RefusedError(f"expected {what}; got a ragged list.") from None
    kind = row.dtype.kind
    if kind not in "biuf":
        raise RefusedError(f"expected {what}; got {type(value).__name__}, which is no number.")
    if row.shape != shape:
        raise RefusedError(f"expected {what} (shape {shape}); got shape {row.shape}.")
    if kind == "f" and not all(map(math.isfinite, row.ravel().tolist())):
        raise RefusedError(f"{row} is not finite. A reading that failed is not recorded: leave this sample out.")
    return row if row.dtype.isnative else row.astype(row.dtype.newbyteorder("="))  # of a robot's network protocol


def _floats(row: np.ndarray) -> np.ndarray:
    """Whole numbers as floating point, too: a list of zeros is one of joints at zero."""
    return row if row.dtype.char in "fd" else row.astype(np.float64)
