"""What the steps of a chunk make an arm do: its first jump, its speeds, its accelerations. Pure functions.

A command is a target, and the arm follows it with a lag. So these are motions of targets, not of joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from positronic import geometry

Floats = NDArray[np.float64]

ROUNDING = 1e-6  # of a limit: what was brought to it is within it


@dataclass(frozen=True)
class Quantity:
    """A part of a command that moves.

    ``between``: two values (..., v) -> the way from one to the other (..., w). ``after``: a value, and where that way
    leads from it. ``size``: of ways, (..., w) -> (..., s); each of the s has limits of its own. ``jump``, ``speed``,
    ``acceleration``: the driver's keys for its limits.
    """

    name: str
    unit: str
    jump: str
    speed: str
    acceleration: str
    between: Callable[[Floats, Floats], Floats]
    after: Callable[[Floats, Floats], Floats]
    size: Callable[[Floats], Floats]


def _length(ways: Floats) -> Floats:
    return np.linalg.norm(ways, axis=-1, keepdims=True)


def _turn_between(one_wxyz: Floats, other_wxyz: Floats) -> Floats:
    return geometry.quat_to_rotvec(geometry.quat_multiply(other_wxyz, geometry.quat_conjugate(one_wxyz)))


def _turn_after(quat_wxyz: Floats, turn: Floats) -> Floats:
    return geometry.quat_multiply(geometry.rotvec_to_quat(turn), quat_wxyz)


def _straight(one: Floats, other: Floats) -> Floats:
    return other - one


PLACE = Quantity("the tool", "m", "max_jump", "max_speed", "max_acceleration", _straight, np.add, _length)
TURN = Quantity(
    "the tool's rotation",
    "rad",
    *("max_turn_jump", "max_turn_speed", "max_turn_acceleration"),
    *(_turn_between, _turn_after, _length),
)
JOINTS = Quantity(
    "joint", "rad", "max_joint_jump", "max_joint_speed", "max_joint_acceleration", _straight, np.add, np.abs
)


@dataclass(frozen=True)
class MotionLimits:
    """Of one quantity, infinite where there is none: ``jump``, ``speed`` a second, ``acceleration`` a second squared,
    each (s,), as ``Quantity.size`` gives."""

    jump: Floats
    speed: Floats
    acceleration: Floats


@dataclass(frozen=True)
class Excess:
    """The first step that moves too far: its number, which ``part`` of the quantity, and what it ``does``, in words
    with the number. ``allowed``: in ``unit``. ``key``: of the driver's limit."""

    step: int
    part: int
    does: str
    allowed: float
    unit: str
    key: str


@dataclass(frozen=True)
class Course:
    """One quantity over steps of a chunk: ``values`` (n, v) at ``times_sec`` (n,), increasing. ``start`` (v,):
    where the robot is measured before the first one, None if that is no matter of this course."""

    quantity: Quantity
    values: Floats
    times_sec: Floats
    start: Floats | None = None


@dataclass(frozen=True)
class Ways:
    """One quantity over steps of a chunk that each say how far to go: ``values`` (n, w), each within its own of
    ``spans_sec`` (n,). ``start`` (w,): where the robot is measured before the first one, None if that is not known."""

    quantity: Quantity
    values: Floats
    spans_sec: Floats
    start: Floats | None = None


def excess(course: Course | Ways, limits: MotionLimits) -> Excess | None:
    """The first limit that a course breaks: of the jump, then of speeds, then of accelerations. None if it breaks
    none."""
    quantity, unit = course.quantity, course.quantity.unit
    jumps, rates, changes = _motions(course)
    speeds_from = len(course.values) - len(rates)  # a step is where its motion arrives
    looks = (
        (jumps, limits.jump, "jumps by {:.3g} {} from where it is measured", unit, quantity.jump, 0),
        (rates, limits.speed, "moves at {:.3g} {}", f"{unit}/s", quantity.speed, speeds_from),
        (
            changes,
            limits.acceleration,
            "accelerates by {:.3g} {}",
            f"{unit}/s²",
            quantity.acceleration,
            speeds_from + 1,
        ),
    )
    for ways, limit, says, unit_of, key, behind in looks:
        sizes = quantity.size(ways)
        beyond = np.argwhere(sizes > limit * (1 + ROUNDING) + ROUNDING)
        if len(beyond):
            row, part = map(int, beyond[0])
            allowed = float(np.broadcast_to(limit, sizes.shape[1:])[part])
            return Excess(row + behind, part, says.format(sizes[row, part], unit_of), allowed, unit_of, key)
    return None


def within(course: Course | Ways, limits: MotionLimits) -> Floats:
    """The values (n, v) of a course that breaks no limit: each step goes as far towards its target as it may, and no
    faster than it can stand there.

    A step that may stay stays to its last bit. The speed limit must let a rotation go less than half a turn in a step:
    which way round it went could not be told otherwise.
    """
    return _ways_within(course, limits) if isinstance(course, Ways) else _steps_within(course, limits)


def _motions(course: Course | Ways) -> tuple[Floats, Floats, Floats]:
    """The jump, at most one, every speed and every acceleration, as ways (m, w)."""
    if isinstance(course, Ways):
        spans = course.spans_sec[:, None]
        rates = course.values / spans
        return rates[:0], rates, np.diff(rates, axis=0) / ((spans[:-1] + spans[1:]) / 2)
    quantity, values = course.quantity, course.values
    spans = np.diff(course.times_sec)[:, None]
    rates = quantity.between(values[:-1], values[1:]) / spans
    jumps = rates[:0] if course.start is None else quantity.between(course.start, values[0])[None]
    return jumps, rates, np.diff(rates, axis=0) / ((spans[:-1] + spans[1:]) / 2)


def _steps_within(course: Course, limits: MotionLimits) -> Floats:
    quantity, values, spans = course.quantity, course.values, np.diff(course.times_sec)
    following = [*(quantity.between(values[1:-1], values[2:]) / spans[1:, None]), None]  # the rate after each step
    middles = [*((spans[:-1] + spans[1:]) / 2), 0.0]
    kept, rate, middle_before = [_without_jump(course, limits)], None, 0.0
    for value, span, after, middle in zip(values[1:], spans, following, middles, strict=False):
        wanted = quantity.between(kept[-1], value) / span
        braked = wanted if after is None else _braked(quantity, wanted, after, span, limits.acceleration, middle)
        allowed = _allowed(quantity, braked, rate, middle_before, limits)
        kept.append(value if allowed is wanted else quantity.after(kept[-1], allowed * span))
        rate, middle_before = allowed, middle
    return np.stack(kept)


def _braked(
    quantity: Quantity, wanted: Floats, after: Floats, span_sec: float, acceleration: Floats, middle_sec: float
) -> Floats:
    """``wanted``, or less of it where the rate could not change to ``after`` within ``middle_sec``: then as fast as it
    can still stand at the target, if each further step of ``span_sec`` is slower by as much as it may be."""
    sharp = quantity.size(after - wanted) > acceleration * middle_sec * (1 + ROUNDING)
    if not np.any(sharp):
        return wanted
    straight, slower = quantity.size(wanted), acceleration * span_sec
    further = np.maximum(np.ceil((np.sqrt(1 + 8 * straight / slower) - 3) / 2), 0)  # steps that it takes to brake
    with np.errstate(invalid="ignore"):  # without a limit, nothing is sharp
        fastest = straight / (further + 1) + slower * further / 2
    return _shortened(quantity, wanted, np.where(sharp, fastest, np.inf))


def _ways_within(ways: Ways, limits: MotionLimits) -> Floats:
    kept, rate, span_before = [], None, 0.0
    for value, span in zip(ways.values, ways.spans_sec, strict=True):
        wanted = value / span
        rate = _allowed(ways.quantity, wanted, rate, (span_before + span) / 2, limits)
        kept.append(value if rate is wanted else rate * span)
        span_before = span
    return np.stack(kept)


def _without_jump(course: Course, limits: MotionLimits) -> Floats:
    first = course.values[0]
    if course.start is None:
        return first
    way = course.quantity.between(course.start, first)
    allowed = _shortened(course.quantity, way, limits.jump)
    return first if allowed is way else course.quantity.after(course.start, allowed)


def _allowed(
    quantity: Quantity, wanted: Floats, before: Floats | None, span_sec: float, limits: MotionLimits
) -> Floats:
    """The rate nearest to ``wanted``, itself if it breaks no limit. ``before``: the rate ``span_sec`` ago.

    That one is within the limit of speeds. So shortening the rate does not change it by more than before.
    """
    rate = wanted
    if before is not None:
        change = wanted - before
        slower = _shortened(quantity, change, limits.acceleration * span_sec)
        rate = wanted if slower is change else before + slower
    return _shortened(quantity, rate, limits.speed)


def _shortened(quantity: Quantity, way: Floats, limit: Floats) -> Floats:
    """``way`` itself if it is within the limit, or else as much of it as is."""
    size = quantity.size(way)
    if np.all(size <= limit * (1 + ROUNDING)):
        return way
    return way * np.minimum(size, limit) / np.maximum(size, np.finfo(float).tiny)
