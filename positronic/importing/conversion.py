"""From the numbers of a recording to those of the raw format: rad, m, ``quat_wxyz``, gripper 0 = open."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.embodiments.embodiment import Arm
from positronic.errors import PositronicError
from positronic.geometry import (
    NoDirectionError,
    matrix_to_quat,
    quat_multiply,
    quat_normalise,
    quat_to_matrix,
    rot6d_to_matrix,
    rotvec_to_quat,
)
from positronic.importing.mapping import LENGTHS, ROTATIONS, SignalMapping
from positronic.importing.quantities import GRIPPER, POSE, SPEEDS, Quantity

Floats = NDArray[np.float64]

POSITION = 3  # numbers of it
CALIBRATED = 100.0  # of m100_100, at each end
NORM_SLACK = 0.05  # of a quaternion's length
MATRIX_SLACK = 1e-2
BEYOND = 0.5  # of a gripper's range: numbers farther outside of it are in another unit


def canonical(signal: SignalMapping, quantity: Quantity, values: NDArray[Any], where: str) -> Floats:
    """``values`` (N, D), as the mapping takes them out of the recording, in the raw format: (N, D'), of a gripper (N,).

    Raises PositronicError, with ``where``, for numbers that are none, rotations that are none, and a gripper far
    outside of what the mapping calls open and closed.
    """
    numbers = np.asarray(values, np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(wrong):
        odd = _first_odd(numbers[wrong[0]])
        raise PositronicError(f"{where}: sample {wrong[0]} holds {odd}; a number was expected.")
    if quantity.kind == GRIPPER:
        return _gripper(numbers[:, 0], float(signal.open), float(signal.closed), where)
    if quantity.kind == POSE:
        return _poses(signal, numbers, where)
    return _angles(signal.unit, numbers, quantity.arm, is_speed=quantity.kind == SPEEDS)


def _angles(unit: str | None, numbers: Floats, arm: Arm, is_speed: bool) -> Floats:
    if unit == "degrees":
        return np.deg2rad(numbers)
    if unit == "m100_100":
        lower, upper = np.array(arm.lower, float), np.array(arm.upper, float)
        scaled = numbers * (upper - lower) / (2 * CALIBRATED)
        return scaled if is_speed else scaled + (lower + upper) / 2
    return numbers


def _gripper(numbers: Floats, opened: float, closed: float, where: str) -> Floats:
    values = (numbers - opened) / (closed - opened)
    worst = int(np.argmax(np.abs(values - 0.5)))
    if abs(values[worst] - 0.5) > 0.5 + BEYOND:
        raise PositronicError(
            f"{where}: {numbers[worst]:g} at sample {worst} is far from open: {opened:g} and closed: {closed:g}. Put "
            "into the mapping what this recording says of an open and of a closed gripper."
        )
    return values


def _poses(signal: SignalMapping, numbers: Floats, where: str) -> Floats:
    position = numbers[:, :POSITION] * LENGTHS[signal.unit]
    try:
        quat = _quat_wxyz(signal.rotation, numbers[:, POSITION:], where)
    except NoDirectionError as error:
        raise PositronicError(f"{where}: {error}") from None
    if signal.base is None:
        return np.concatenate([position, quat], axis=1)
    frame = np.array(signal.base, float)
    matrix = quat_to_matrix(frame[POSITION:])
    moved = position @ matrix.T + frame[:POSITION]
    return np.concatenate([moved, quat_multiply(quat_normalise(frame[POSITION:]), quat)], axis=1)


def _quat_wxyz(rotation: str, numbers: Floats, where: str) -> Floats:
    """(N, 4) of ``numbers`` (N, R) in the layout ``rotation``."""
    if rotation in ("quat_wxyz", "quat_xyzw"):
        quat = numbers if rotation == "quat_wxyz" else numbers[:, [3, 0, 1, 2]]
        length = np.linalg.norm(quat, axis=1)
        _require(np.abs(length - 1) < NORM_SLACK, where, "a unit quaternion", length)
        return quat_normalise(quat)
    if rotation == "rotvec":
        return rotvec_to_quat(numbers)
    if rotation == "euler_xyz":
        x, y, z = (rotvec_to_quat(np.eye(3)[axis] * numbers[:, axis, None]) for axis in range(3))
        return quat_multiply(z, quat_multiply(y, x))
    if rotation == "matrix":
        matrix = numbers.reshape(-1, 3, 3)
        off = np.abs(matrix @ matrix.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
        _require((off < MATRIX_SLACK) & (np.linalg.det(matrix) > 0), where, "a rotation matrix", off)
        return matrix_to_quat(matrix)
    found = rot6d_to_matrix(numbers)
    return matrix_to_quat(found if rotation == "rot6d_rows" else found.transpose(0, 2, 1))


def _require(holds: NDArray[np.bool_], where: str, what: str, measured: Floats) -> None:
    wrong = np.flatnonzero(~holds)
    if len(wrong):
        raise PositronicError(
            f"{where}: sample {wrong[0]} is not {what} ({measured[wrong[0]]:.4g}). Is 'rotation' in the mapping "
            f"another one of {', '.join(ROTATIONS)}, or are 'dims' in another order?"
        )


def _first_odd(row: Floats) -> float:
    return float(row[~np.isfinite(row)][0])
