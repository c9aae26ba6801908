"""Is what a policy sees still true? A stale signal ends the episode before the policy is asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from positronic import keys
from positronic.errors import PositronicError
from positronic.freshness import FLAT_LEVELS, MEASURED_ARM, Picture, contrast, distance, is_same, look_at
from positronic.hardware.robot import Robot, Stamped
from positronic.raw.timeline import NS_PER_SEC


class StaleSignal(PositronicError):  # noqa: N818  (it names the state of a signal)
    """A signal that is older than the driver allows, by its stamp or by its content."""


def measured_ns(robot: Robot, observation: Mapping[str, Any]) -> dict[str, int]:
    """When each signal of an observation was measured, ns since the reset. It is now, unless the robot says
    otherwise."""
    told = robot.measured_ns() if isinstance(robot, Stamped) else {}
    return {name: told.get(name, robot.time_ns) for name in observation}


class _Arm(NamedTuple):
    """Where the arm is, by the signal ``name``."""

    name: str
    values: NDArray[np.float64]


@dataclass
class _Shown:
    """What a camera has shown since ``since_ns``, and where the arm was then. ``moved_ns``: when the arm was first
    somewhere else."""

    picture: Picture
    since_ns: int
    arm: _Arm | None
    moved_ns: int | None = None


class FreshnessCheck:
    """Follows the signals of one episode. ``limit_sec``: how old a signal may be; None allows any age."""

    def __init__(self, limit_sec: float | None) -> None:
        self._limit_sec = limit_sec
        self._shown: dict[str, _Shown] = {}

    def check(self, time_ns: int, observation: Mapping[str, Any], stamps_ns: Mapping[str, int]) -> None:
        """Take what was observed at ``time_ns``, in order of time.

        Raises StaleSignal if a stamp is older than the limit, or if a camera has not shown a movement of the arm for
        longer than the limit.
        """
        if self._limit_sec is None:
            return
        for name, stamp_ns in stamps_ns.items():
            if time_ns - stamp_ns > self._limit_sec * NS_PER_SEC:
                raise self._stale(name, time_ns, f"was measured {(time_ns - stamp_ns) / NS_PER_SEC:.2f} s before")
        arm = _arm(observation)
        for name, value in observation.items():
            if name.startswith(keys.IMAGE_PREFIX):
                self._check_picture(name, np.asarray(value), time_ns, arm)

    def _check_picture(self, name: str, image: NDArray[np.uint8], time_ns: int, arm: _Arm | None) -> None:
        picture, shown = look_at(Image.fromarray(image)), self._shown.get(name)
        if shown is None or not is_same(shown.picture, picture):
            self._shown[name] = _Shown(picture, time_ns, arm)
        elif shown.moved_ns is None:  # the limit runs from the movement: a still scene may be shown for ever
            shown.moved_ns = time_ns if _has_moved(shown.arm, arm) else None
        elif time_ns - shown.moved_ns > self._limit_sec * NS_PER_SEC and contrast(picture) >= FLAT_LEVELS:
            raise self._stale(
                name, time_ns, f"shows the picture of {shown.since_ns / NS_PER_SEC:.2f} s, but the arm moved since"
            )

    def _stale(self, name: str, time_ns: int, what: str) -> StaleSignal:
        return StaleSignal(
            f"At {time_ns / NS_PER_SEC:.2f} s '{name}' {what} (allowed: driver.max_staleness_sec={self._limit_sec:g},"
            " null allows any time). Is its sensor or its reader still running?"
        )


def _arm(observation: Mapping[str, Any]) -> _Arm | None:
    name = next((name for name in MEASURED_ARM if name in observation), None)
    return None if name is None else _Arm(name, np.asarray(observation[name], np.float64))


def _has_moved(before: _Arm | None, now: _Arm | None) -> bool:
    if before is None or now is None or before.name != now.name:
        return False
    return bool(distance(now.name, now.values[None], before.values)[0] >= 1)
