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
from positronic.freshness import (
    FLAT_LEVELS,
    Picture,
    contrast,
    distance,
    is_same,
    look_at,
    moving_signals,
    seen_arms,
)
from positronic.hardware.robot import Robot, Stamped
from positronic.raw.timeline import NS_PER_SEC


class StaleSignal(PositronicError):  # noqa: N818  (it names the state of a signal)
    """A signal that is older than the driver allows, by its stamp or by its content."""


def measured_ns(robot: Robot, observation: Mapping[str, Any]) -> dict[str, int]:
    """When each signal of an observation was measured, ns since the reset. It is now, unless the robot says
    otherwise."""
    told = robot.measured_ns() if isinstance(robot, Stamped) else {}
    return {name: told.get(name, robot.time_ns) for name in observation}


Places = Mapping[str, NDArray[np.float64]]
"""Signal -> value: where each arm is."""


@dataclass
class _Shown:
    """What a camera has shown since ``since_ns``, and where the arms that it sees were then. ``moved_ns``: when one was
    first somewhere else."""

    picture: Picture
    since_ns: int
    arms: Places
    moved_ns: int | None = None


class FreshnessCheck:
    """Follows the signals of one episode. ``limit_sec``: how old a signal may be; None allows any age. ``roles``: of
    cameras, by name, where the robot states them."""

    def __init__(self, limit_sec: float | None, roles: Mapping[str, str] | None = None) -> None:
        self._limit_sec, self._roles = limit_sec, dict(roles or {})
        self._shown: dict[str, _Shown] = {}

    def check(self, time_ns: int, observation: Mapping[str, Any], stamps_ns: Mapping[str, int]) -> None:
        """Take what was observed at ``time_ns``, in order of time.

        Raises StaleSignal if a stamp is older than the limit, or if a camera has not shown a movement of an arm that it
        sees for longer than the limit.
        """
        if self._limit_sec is None:
            return
        for name, stamp_ns in stamps_ns.items():
            if time_ns - stamp_ns > self._limit_sec * NS_PER_SEC:
                raise self._stale(name, time_ns, f"was measured {(time_ns - stamp_ns) / NS_PER_SEC:.2f} s before")
        arms = moving_signals(observation)
        for name, value in observation.items():
            if name.startswith(keys.IMAGE_PREFIX):
                camera = name.removeprefix(keys.IMAGE_PREFIX)
                seen = [arms[arm][0] for arm in seen_arms(self._roles.get(camera, camera), arms)]
                places = {each: np.asarray(observation[each], np.float64) for each in seen}
                self._check_picture(name, np.asarray(value), time_ns, places)

    def _check_picture(self, name: str, image: NDArray[np.uint8], time_ns: int, arms: Places) -> None:
        picture, shown = look_at(Image.fromarray(image)), self._shown.get(name)
        if shown is None or not is_same(shown.picture, picture):
            self._shown[name] = _Shown(picture, time_ns, arms)
        elif shown.moved_ns is None:  # the limit runs from the movement: a still scene may be shown for ever
            shown.moved_ns = time_ns if _have_moved(shown.arms, arms) else None
        elif time_ns - shown.moved_ns > self._limit_sec * NS_PER_SEC and contrast(picture) >= FLAT_LEVELS:
            raise self._stale(
                name, time_ns, f"shows the picture of {shown.since_ns / NS_PER_SEC:.2f} s, but the arm moved since"
            )

    def _stale(self, name: str, time_ns: int, what: str) -> StaleSignal:
        return StaleSignal(
            f"At {time_ns / NS_PER_SEC:.2f} s '{name}' {what} (allowed: driver.max_staleness_sec={self._limit_sec:g},"
            " null allows any time). Is its sensor or its reader still running?"
        )


def _have_moved(before: Places, now: Places) -> bool:
    both = before.keys() & now.keys()
    return any(distance(name, now[name][None], before[name])[0] >= 1 for name in both)
