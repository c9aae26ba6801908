"""Experts: they know where everything is, and show a task by a feedback law without memory.

An expert's command depends on the present scene alone. So a disturbed state gets an honest label, and a policy that
sees one observation can imitate it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from positronic.commands import ActionStep, CartesianPosition
from positronic.hardware.sim.panda import MAX_WIDTH
from positronic.hardware.sim.state import SceneState

Floats = NDArray[np.float64]

OPEN, CLOSED = 0.0, 1.0


class Phase(Enum):
    """What the expert is doing."""

    APPROACH = "approach"
    GRASP = "grasp"
    CARRY = "carry"
    PUSH = "push"
    RELEASE = "release"
    RETREAT = "retreat"


TRAVEL = frozenset({Phase.APPROACH, Phase.CARRY})


@dataclass(frozen=True)
class Decision:
    """What to do now, and which part of the task that is."""

    step: ActionStep
    phase: Phase


class Expert(Protocol):
    """Who can do a task."""

    def decide(self, state: SceneState) -> Decision:
        """The next command, from the present scene alone."""
        ...

    def is_done(self, state: SceneState) -> bool:
        """Whether there is nothing left to do: a demonstration may end."""
        ...


@dataclass(frozen=True)
class Funnel:
    """How high above ``goal`` the tool still has to be: ``slope`` times the sideways error, ``height`` m at most."""

    slope: float
    height: float
    free: float = 0.008  # m of sideways error that asks for no height

    def above(self, error: float) -> float:
        """Metres above the goal, for a sideways ``error`` in m."""
        return float(np.clip(self.slope * (error - self.free), 0, self.height))


@dataclass(frozen=True)
class Pace:
    """How fast the tool goes, ``control_fps`` commands a second. Speeds are in m/s and rad/s."""

    control_fps: int
    speed: float = 0.40
    climb_speed: float = 0.32
    turn_speed: float = 2.5

    def towards(self, state: SceneState, goal: Floats, yaw: float, funnel: Funnel) -> tuple[Floats, float]:
        """The next position (3,) and yaw on the way to ``goal`` (3,), down through ``funnel``."""
        off = goal[:2] - state.tcp[:2]
        error = float(np.hypot(off[0], off[1]))
        ahead = min(0.6, self.speed / self.control_fps / max(error, 1e-9))
        climb = self.climb(state, goal[2] + funnel.above(error))
        return np.append(state.tcp[:2] + ahead * off, climb), self.turn(state, yaw)

    def turn(self, state: SceneState, yaw: float) -> float:
        """The next yaw on the way to ``yaw``."""
        return state.tcp_yaw + float(np.clip(0.7 * (yaw - state.tcp_yaw), *self._limits(self.turn_speed)))

    def climb(self, state: SceneState, height: float) -> float:
        """The next height on the way to ``height``."""
        step = np.clip(0.7 * (height - state.tcp[2]), *self._limits(self.climb_speed))
        return float(state.tcp[2] + step)

    def _limits(self, speed: float) -> tuple[float, float]:
        return -speed / self.control_fps, speed / self.control_fps


def decision(phase: Phase, position: Floats, yaw: float, target_grip: float) -> Decision:
    """Bring the tool to ``position`` (3,), pointing down, turned by ``yaw``."""
    pose = np.concatenate([position, down_quat(yaw)])
    return Decision(ActionStep.of_one(CartesianPosition(pose), target_grip), phase)


def near(state: SceneState, goal: Floats, tolerance: float) -> bool:
    """Whether the tool is within ``tolerance`` m of ``goal`` (3,), sideways and in height."""
    off = goal - state.tcp
    return bool(np.hypot(off[0], off[1]) < tolerance and abs(off[2]) < tolerance)


def is_open(state: SceneState) -> bool:
    """Whether the gripper is."""
    return state.width > 0.9 * MAX_WIDTH


def down_quat(yaw: float) -> Floats:
    """Unit quaternion (4,), scalar first, x > 0 for |yaw| < pi, of a tool that points down, turned by ``yaw`` rad."""
    return np.array([0.0, np.cos(yaw / 2), np.sin(yaw / 2), 0.0])


def down_yaw(quat_wxyz: Floats) -> float:
    """The ``yaw`` of ``down_quat``."""
    return float(2 * np.arctan2(quat_wxyz[2], quat_wxyz[1]))
