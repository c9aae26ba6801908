"""Which numbers of a robot are possible: one definition for recordings, baked columns, live observations and commands.

The limits are wide on purpose. They find other units (millimetres, degrees, percent), other layouts and damage, not bad
demonstrations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from positronic.commands import ActionStep, CartesianPosition, Command, JointDelta, JointPosition

Floats = NDArray[np.floating]

GRIP_SLACK = 0.05  # measured widths overshoot by a few steps of a sensor
REACH_M = 3.0  # from the robot's base; arms on a table reach about 1 m, and millimetres come as hundreds
JOINT_LIMIT_RAD = 2 * math.pi  # no joint here turns further; degrees come as tens
JOINT_STEP_RAD = 1.0  # within one control step; five times the largest that DROID's actions can say
ROTATION_SLACK = 1e-3  # of lengths and angles of encoded unit vectors, far above float32's rounding
APART_DEG = 45.0  # of a command from what is measured, throughout an episode: no controller lags like that
APART_M = 0.5
TINY = 1e-300
QUAT_SLACK = 0.01  # of a raw quaternion's length: clients in the field round to two decimals


class Limit(NamedTuple):
    """``measure`` makes numbers of rows, (T, d) -> (T, d) or (T, 1), from their ``dims``; each must be from ``low`` to
    ``high``.

    ``says``: what is wrong otherwise, with the measured number in braces.
    """

    dims: slice
    low: float
    high: float
    measure: Callable[[Floats], Floats]
    says: str

    def excess(self, rows: Floats) -> tuple[Floats, Floats]:
        """For rows (T, D): what was measured, and how far it is outside (0 inside). A NaN counts as inside."""
        with np.errstate(invalid="ignore", over="ignore"):
            measured = self.measure(rows[:, self.dims].astype(np.float64))
            outside = np.maximum(self.low - measured, measured - self.high)
        return measured, np.fmax(outside, 0.0)


def itself(rows: Floats) -> Floats:
    """The numbers as they are."""
    return rows


def norm(rows: Floats) -> Floats:
    """Length of each row, (T, 1)."""
    return np.linalg.norm(rows, axis=1, keepdims=True)


def skewness(rows: Floats) -> Floats:
    """How far two rows of three, side by side, are from unit length and from a right angle, (T, 1)."""
    first, second = rows[:, :3], rows[:, 3:]
    errors = [norm(first) - 1, norm(second) - 1, (first * second).sum(axis=1, keepdims=True)]
    return np.abs(np.hstack(errors)).max(axis=1, keepdims=True)


def turn_between(rows: Floats) -> Floats:
    """Angle in degrees between the rotations of two poses side by side, rows (T, 14) -> (T, 1)."""
    one, two = rows[:, 3:7], rows[:, 10:14]
    cosine = np.abs((one * two).sum(axis=1, keepdims=True)) / np.maximum(norm(one) * norm(two), TINY)
    return np.degrees(2 * np.arccos(np.minimum(cosine, 1.0)))


def way_between(rows: Floats) -> Floats:
    """Distance of two poses side by side, rows (T, 14) -> (T, 1), m."""
    return norm(rows[:, :3] - rows[:, 7:10])


EVERY = slice(0, None)
GRIP = Limit(EVERY, -GRIP_SLACK, 1 + GRIP_SLACK, itself, "gripper at {:.4g}, expected 0 (open) to 1 (closed)")
JOINTS = Limit(
    EVERY,
    -JOINT_LIMIT_RAD,
    JOINT_LIMIT_RAD,
    itself,
    "joint at {:.4g}, expected at most 2 pi either way: radians, not degrees",
)
JOINT_STEPS = Limit(
    EVERY,
    -JOINT_STEP_RAD,
    JOINT_STEP_RAD,
    itself,
    f"joint moves by {{:.4g}} in one step, expected at most {JOINT_STEP_RAD:g} rad",
)
REACH = Limit(
    slice(0, 3),
    0,
    REACH_M,
    norm,
    f"{{:.4g}} m from the base, expected at most {REACH_M:g}: metres, not millimetres",
)
SAME_ROTATION = Limit(
    EVERY, 0, APART_DEG, turn_between, "{:.4g} degrees apart, expected one frame and one order of the quaternion"
)
SAME_PLACE = Limit(EVERY, 0, APART_M, way_between, "{:.4g} m apart, expected one frame and one unit")
QUAT_SAYS = "quaternion of norm {:.4g}, expected 1"
RAW_QUAT = Limit(slice(3, 7), 1 - QUAT_SLACK, 1 + QUAT_SLACK, norm, QUAT_SAYS)
ENCODED_ROTATION = {
    "quat_wxyz": Limit(slice(3, 7), 1 - ROTATION_SLACK, 1 + ROTATION_SLACK, norm, QUAT_SAYS),
    "rot6d_rows": Limit(slice(3, 9), 0, ROTATION_SLACK, skewness, "rotation rows {:.4g} away from orthonormal"),
    "rotvec": Limit(
        slice(3, 6), 0, 2 * math.pi + ROTATION_SLACK, norm, "rotation vector of {:.4g} rad, expected at most 2 pi"
    ),
}


def fault(limits: Sequence[Limit], rows: ArrayLike) -> str | None:
    """What is wrong with rows (T, D): the worst number beyond the first limit that they break. None if nothing is
    wrong."""
    rows = np.asarray(rows, np.float64)
    for limit in limits:
        measured, beyond = limit.excess(rows)
        if beyond.any():
            return limit.says.format(measured.flat[beyond.argmax()])
    return None


def command_fault(command: Command) -> str | None:
    """Why no robot on a table could follow a command, in words with the number. None if it could."""
    if isinstance(command, CartesianPosition):
        return fault((REACH, RAW_QUAT), command.pose[None])
    if isinstance(command, JointPosition):
        return fault((JOINTS,), command.positions[None])
    if isinstance(command, JointDelta):
        return fault((JOINT_STEPS,), command.velocities[None])
    return None


def step_fault(step: ActionStep) -> str | None:
    """Like ``command_fault``, for the commands and grippers of a step."""
    for name, action in step.arms.items():
        found = command_fault(action.command)
        if found is None and action.target_grip is not None:
            found = fault((GRIP,), [[action.target_grip]])
        if found is not None:
            return f"arm {name}: {found}" if name else found
    return None
