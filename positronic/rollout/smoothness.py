"""How smoothly a tool moved, from where it was measured to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from positronic import keys
from positronic.raw.timeline import NS_PER_SEC

FEWEST = 4  # samples, without which there is no jerk
STILL = 1e-3  # m: a tool that went no further than this in any direction stood still
TOO_SOON = 0.5  # of the usual step: the last look at an episode may follow the one before by a rounding error


def log_dimensionless_jerk(times_sec: ArrayLike, positions: ArrayLike) -> float | None:
    """Smoothness of a path: ``positions`` (n, d) in m at ``times_sec`` (n,), increasing. It has no unit, and larger,
    nearer to 0, is smoother. It depends neither on how far nor on how fast the whole motion goes. The smoothest way
    from rest to rest, the minimum-jerk path, has -5.3; with a pause after it, it has less.

    It is -ln(T³ / v² · ∫ |jerk|² dt), T the duration and v the highest speed: the log dimensionless jerk of
    S. Balasubramanian, A. Melendez-Calderon, A. Roby-Brami, E. Burdet, "On the analysis of movement smoothness",
    J. NeuroEngineering and Rehabilitation 12:112, 2015. Speeds are those between samples; jerks are third divided
    differences, exact for a cubic path however its samples are spaced.

    None for fewer than FEWEST samples, for a tool that stood still, and for one without any jerk.
    """
    times, path = np.asarray(times_sec, float), np.asarray(positions, float)
    if len(times) < FEWEST or np.ptp(path, axis=0).max() < STILL:
        return None
    first = np.diff(path, axis=0) / np.diff(times)[:, None]
    second = np.diff(first, axis=0) / (times[2:] - times[:-2])[:, None]
    jerk = 6 * np.diff(second, axis=0) / (times[3:] - times[:-3])[:, None]
    duration = times[-1] - times[0]
    mean_square = float(np.mean(np.sum(jerk**2, axis=1)))  # ∫ |jerk|² dt is this times the duration
    top_speed = float(np.linalg.norm(first, axis=1).max())
    return -math.log(duration**4 * mean_square / top_speed**2) if mean_square > 0 else None


class ToolPaths:
    """Where each arm's tool was measured to be in an episode."""

    def __init__(self) -> None:
        self._paths: dict[str, list[tuple[float, ...]]] = {}  # signal -> (seconds, x, y, z)

    def note(self, observation: Mapping[str, Any], stamps_ns: Mapping[str, int]) -> None:
        """Keep the poses in ``observation`` that are newer than those before. ``stamps_ns``: when they were
        measured."""
        for name, value in observation.items():
            if keys.split_arm(name)[0] == keys.EE_POSE:
                path, time_sec = self._paths.setdefault(name, []), stamps_ns[name] / NS_PER_SEC
                if not path or time_sec > path[-1][0]:
                    path.append((time_sec, *map(float, value[:3])))

    def smoothness(self) -> float | None:
        """The log dimensionless jerk, of several arms its mean over those that moved; None if none did."""
        each = [_smoothness(np.array(path)) for path in self._paths.values()]
        known = [value for value in each if value is not None]
        return round(float(np.mean(known)), 6) if known else None


def _smoothness(path: NDArray[np.float64]) -> float | None:
    """Of one arm's path (n, 4), seconds and position."""
    if len(path) < FEWEST:
        return None
    steps = np.diff(path[:, 0])
    usual = np.append(True, steps > TOO_SOON * np.median(steps))
    return log_dimensionless_jerk(path[usual, 0], path[usual, 1:])
