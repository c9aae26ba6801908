"""Is what a policy sees still true? A stale signal ends the episode before the policy is asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from positronic import keys
from positronic.errors import PositronicError
from positronic.freshness import DISTANCES, FLAT_LEVELS, NS, Picture, contrast, distance, is_same, look_at
from positronic.hardware.robot import Robot, Stamped

ARM = (keys.EE_POSE, keys.JOINT_POSITION)


class StaleSignal(PositronicError):  # noqa: N818  (it names the state of a signal)
    """A signal that is older than the driver allows, by its stamp or by its content."""


def measured_ns(robot: Robot, observation: Mapping[str, Any]) -> dict[str, int]:
    """When each signal of an observation made now was measured, ns since the reset: now, unless the robot says it."""
    told = robot.measured_ns() if isinstance(robot, Stamped) else {}
    return {name: told.get(name, robot.time_ns) for name in observation}


@dataclass
class _Shown:
    """What a camera shows since ``since_ns``, and where the arm was then. ``moved_ns``: when it was elsewhere."""

    picture: Picture
    since_ns: int
    arm: dict[str, NDArray[np.float64]]
    moved_ns: int | None = None


class FreshnessCheck:
    """Follows the signals of one episode. ``limit_sec``: how old one may be; None allows any age."""

    def __init__(self, limit_sec: float | None) -> None:
        self._limit_sec = limit_sec
        self._shown: dict[str, _Shown] = {}

    def check(self, time_ns: int, observation: Mapping[str, Any], stamps_ns: Mapping[str, int]) -> None:
        """Take what was observed at ``time_ns``, in order of time.

        Raises StaleSignal when a stamp is older than the limit, or when a camera has left out for longer than that that
        the arm moved.
        """
        if self._limit_sec is None:
            return
        for name, stamp_ns in stamps_ns.items():
            if time_ns - stamp_ns > self._limit_sec * NS:
                raise self._stale(name, time_ns, f"was measured {(time_ns - stamp_ns) / NS:.2f} s before")
        arm = {name: np.asarray(observation[name], np.float64) for name in ARM if name in observation}
        arm = dict(list(arm.items())[:1])  # a turning wrist joint alone may not be seen from afar
        for name, value in observation.items():
            if name.startswith(keys.IMAGE_PREFIX):
                self._check_picture(name, np.asarray(value), time_ns, arm)

    def _check_picture(
        self, name: str, image: NDArray[np.uint8], time_ns: int, arm: dict[str, NDArray[np.float64]]
    ) -> None:
        picture, shown = look_at(Image.fromarray(image)), self._shown.get(name)
        if shown is None or not is_same(shown.picture, picture):
            self._shown[name] = _Shown(picture, time_ns, arm)
        elif shown.moved_ns is None:
            shown.moved_ns = time_ns if _has_moved(shown.arm, arm) else None
        elif time_ns - shown.moved_ns > self._limit_sec * NS and contrast(picture) >= FLAT_LEVELS:
            raise self._stale(
                name, time_ns, f"shows the picture of {shown.since_ns / NS:.2f} s, but the arm moved since"
            )

    def _stale(self, name: str, time_ns: int, what: str) -> StaleSignal:
        return StaleSignal(
            f"At {time_ns / NS:.2f} s '{name}' {what} (allowed: driver.max_staleness_sec={self._limit_sec:g}, null"
            " allows any time). Is its sensor or its reader still running?"
        )


def _has_moved(before: Mapping[str, NDArray[np.float64]], now: Mapping[str, NDArray[np.float64]]) -> bool:
    both = [name for name in before.keys() & now.keys() & DISTANCES.keys() if before[name].shape == now[name].shape]
    return any(distance(name, now[name][None], before[name])[0] >= 1 for name in both)
