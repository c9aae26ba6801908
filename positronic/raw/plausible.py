"""What no recording of a robot can hold: stamps in another unit, and values that leap away and back.

Finding them needs only a signal's published name, and costs one pass over its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.raw.faults import BadEpisode
from positronic.raw.timeline import NS_PER_SEC, Times

MIN_SPACING_NS = 10_000  # no robot is sampled at 100 kHz; stamps in s, ms or us, taken for ns, are nearer
MIN_TYPICAL_SPACING_NS = 100_000  # nor at 10 kHz throughout; stamps of cameras and arms in us, taken for ns, are nearer
MIN_EPISODE_NS = 10_000_000
MAX_EPISODE_NS = 24 * 3600 * NS_PER_SEC
UNIT_HINT = "stamps are whole nanoseconds: multiply seconds by 10**9, milliseconds by 10**6, microseconds by 10**3"

MAX_JOINT_SPEED = 10.0  # rad/s; arms reach 2 to 6
MAX_SPEED = 5.0  # m/s; arms reach 1 to 3
MAX_QUAT_SPEED = 5.0  # 1/s, of one element: 10 rad/s
MIN_DT_SEC = 0.01  # between samples closer than this, jitter of their stamps looks like speed
LONGEST_LEAP = 3  # samples that one damaged page may hold
OUTLIER = 10  # times the step that 9 of 10 samples stay below, so that a noisy signal has no leaps
FULL_TURN_SLACK = 0.2  # rad; a joint without stops may be noted at +pi or at -pi

Floats = NDArray[np.floating]


class _Limit(NamedTuple):
    dims: slice
    speed: float
    unit: str


_JOINTS = (_Limit(slice(0, None), MAX_JOINT_SPEED, "rad"),)
_POSE = (_Limit(slice(0, 3), MAX_SPEED, "m"), _Limit(slice(3, 7), MAX_QUAT_SPEED, "of a quaternion"))
LIMITS = {
    keys.JOINT_POSITION: _JOINTS,
    keys.COMMAND_JOINTS: _JOINTS,
    keys.EE_POSE: _POSE,
    keys.COMMAND_POSE: _POSE,
}


def require_plausible_times(times: Times, path: Path) -> None:
    """Raise BadEpisode when two samples are nearer than 10 us, or most are nearer than 100 us, as stamps in another
    unit are. Equal stamps are accepted here."""
    steps = np.diff(times)
    near = np.flatnonzero((steps > 0) & (steps < MIN_SPACING_NS))
    if len(near):
        row = int(near[0])
        raise BadEpisode(
            path.parent,
            f"{path.name}: rows {row} and {row + 1} are {steps[row]} ns apart, expected at least {MIN_SPACING_NS}; "
            f"{UNIT_HINT}.",
        )
    if len(steps) and 0 < (typical := int(np.median(steps))) < MIN_TYPICAL_SPACING_NS:
        raise BadEpisode(
            path.parent,
            f"{path.name}: most rows are {typical} ns apart, expected at least {MIN_TYPICAL_SPACING_NS}; {UNIT_HINT}.",
        )


def require_one_clock(spans: Mapping[str, Sequence[int]], path: Path) -> None:
    """Raise BadEpisode when a signal ends a day before the others do. ``spans``: name -> first and last stamp, ns;
    ``path``: the episode's folder."""
    early = min(spans, key=lambda name: spans[name][-1])
    late = max(spans, key=lambda name: spans[name][-1])
    if spans[late][-1] - spans[early][-1] > MAX_EPISODE_NS:
        raise BadEpisode(
            path,
            f"'{early}' ends at {spans[early][-1]} ns and '{late}' at {spans[late][-1]} ns: their clocks differ, "
            f"or the units of their stamps do; {UNIT_HINT}.",
        )


def require_plausible_length(start_ns: int, last_ns: int, path: Path) -> None:
    """Raise BadEpisode when an episode is shorter than 10 ms or longer than a day. ``path``: its folder."""
    length = last_ns - start_ns
    if 0 < length < MIN_EPISODE_NS:
        raise BadEpisode(path, f"it lasts {length} ns, expected at least {MIN_EPISODE_NS} (10 ms); {UNIT_HINT}.")
    if length > MAX_EPISODE_NS:
        hours = length / (3600 * NS_PER_SEC)
        raise BadEpisode(
            path,
            f"it lasts {hours:.3g} hours, from {start_ns} to {last_ns} ns, expected at most a day; {UNIT_HINT}.",
        )


def require_no_leaps(name: str, times: Times, values: np.ndarray, path: Path) -> None:
    """Raise BadEpisode when ``values`` (N, D) of the published signal ``name`` leap away faster than a robot can move,
    and come back within three samples. A damaged page or a failed reading looks like this."""
    if values.ndim != 2 or values.dtype.kind != "f":
        return
    limits = LIMITS.get(keys.split_arm(name)[0], ())
    if not limits or len(values) < 3:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(values[1:] - values[:-1]).max()
    if largest <= min(limit.speed for limit in limits) * MIN_DT_SEC:
        return  # true of nearly every signal of an arm that is sampled fast enough
    for dims, speed, unit in limits:
        rows = values[:, dims].astype(np.float64)
        if unit == "of a quaternion":
            rows = _one_sign(rows)
        found = _leap(times, rows, speed, unit == "rad")
        if found is not None:
            row, dim = found
            start = (dims.start or 0) + dim
            before, there = rows[row - 1, dim], rows[row, dim]
            raise BadEpisode(
                path.parent,
                f"{path.name}: element {start} leaps from {before:.4g} to {there:.4g} {unit} at row {row} and back, "
                f"faster than {speed:g} {unit} a second. The file is damaged, or a reading failed.",
            )


def _one_sign(quat: Floats) -> Floats:
    """Give each quaternion the sign that is nearer to the one before, since q and -q are the same rotation."""
    turned = np.sign((quat[1:] * quat[:-1]).sum(axis=1))
    return quat * np.cumprod(np.concatenate([[1.0], np.where(turned < 0, -1.0, 1.0)]))[:, None]


def _leap(times: Times, rows: Floats, speed: float, is_angle: bool) -> tuple[int, int] | None:
    """Row and dimension of the first sample of a leap."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.diff(rows, axis=0)
        fast = np.abs(steps) > speed * np.maximum(np.diff(times) / NS_PER_SEC, MIN_DT_SEC)[:, None]
    if is_angle:
        fast &= np.abs(np.abs(steps) - 2 * math.pi) > FULL_TURN_SLACK
    if not fast.any():
        return None
    fast &= np.abs(steps) > OUTLIER * np.quantile(np.abs(steps), 0.9, axis=0)
    for step, dim in np.argwhere(fast):
        away = steps[step, dim]
        for back in range(step + 1, min(step + 1 + LONGEST_LEAP, len(steps))):
            left = rows[back + 1, dim] - rows[step, dim]
            if fast[back, dim] and steps[back, dim] * away < 0 and abs(left) < abs(away) / 2:
                return int(step) + 1, int(dim)
    return None
