"""The expert that knows where the cubes are. It puts red onto blue, by a feedback law without memory.

Its command depends on the present scene alone. So a disturbed state gets an honest label, and a policy that sees one
observation can imitate it. The tool comes down in a funnel, lower the better it is aligned, so it never sweeps a cube
aside. A lost cube is simply fetched again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from positronic.commands import ActionStep, CartesianPosition
from positronic.hardware.sim.panda import MAX_WIDTH
from positronic.hardware.sim.scene import SceneState

Floats = NDArray[np.float64]

OPEN, CLOSED = 0.0, 1.0


class Phase(Enum):
    """What the expert is doing."""

    APPROACH = "approach"
    GRASP = "grasp"
    CARRY = "carry"
    RELEASE = "release"
    RETREAT = "retreat"


TRAVEL = frozenset({Phase.APPROACH, Phase.CARRY})


@dataclass(frozen=True)
class Decision:
    """What to do now, and which part of the task that is."""

    step: ActionStep
    phase: Phase


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
class Expert:
    """Stacks cubes of ``cube_size`` m and gives ``control_fps`` commands a second. Speeds are in m/s and rad/s."""

    cube_size: float
    control_fps: int
    speed: float = 0.40
    climb_speed: float = 0.32
    turn_speed: float = 2.5
    arrived: float = 0.006  # m, sideways and in height
    aligned: float = 0.1  # rad
    retreat: float = 0.12  # m
    pick: Funnel = Funnel(slope=5.0, height=0.12)
    place: Funnel = Funnel(slope=4.0, height=0.08)

    def decide(self, state: SceneState) -> Decision:
        """The next command, from the present scene alone."""
        if self.is_stacked(state) and not self._holds(state):
            return self._leave(state)
        if self._holds(state):
            return self._carry(state)
        return self._pick(state)

    def is_done(self, state: SceneState) -> bool:
        """Whether red stands on blue and the open gripper is out of the way."""
        risen = state.tcp[2] - self._stacked_at(state)[2] > self.retreat - self.arrived
        return bool(self.is_stacked(state) and risen and self._is_open(state))

    def is_stacked(self, state: SceneState) -> bool:
        """Whether red is where a cube on blue would be, held or not."""
        off = state.red - self._stacked_at(state)
        return bool(np.hypot(off[0], off[1]) < 0.4 * self.cube_size and abs(off[2]) < 0.2 * self.cube_size)

    def _pick(self, state: SceneState) -> Decision:
        target = self._towards(state, state.red, state.red_yaw, self.pick)
        if self._at(state, state.red, state.red_yaw) or self._closing(state):
            return self._decision(Phase.GRASP, state.red, state.red_yaw, CLOSED)
        return self._decision(Phase.APPROACH, *target, OPEN)

    def _carry(self, state: SceneState) -> Decision:
        goal = self._stacked_at(state, clearance=0.003)
        position, yaw = self._towards(state, goal, state.blue_yaw, self.place)
        if self._at(state, goal, state.blue_yaw):
            return self._decision(Phase.RELEASE, position, yaw, OPEN)
        rising = np.clip(1 - (position[2] - state.tcp[2]) / 0.04, 0, 1)  # lift before travelling
        position[:2] = state.tcp[:2] + (position[:2] - state.tcp[:2]) * rising
        return self._decision(Phase.CARRY, position, yaw, CLOSED)

    def _leave(self, state: SceneState) -> Decision:
        goal = np.append(state.tcp[:2], self._stacked_at(state)[2])
        if not self._is_open(state):
            return self._decision(Phase.RELEASE, goal, state.tcp_yaw, OPEN)
        climb = self._climb(state, goal[2] + self.retreat)
        return self._decision(Phase.RETREAT, np.append(goal[:2], climb), state.tcp_yaw, OPEN)

    def _towards(self, state: SceneState, goal: Floats, yaw: float, funnel: Funnel) -> tuple[Floats, float]:
        off = goal[:2] - state.tcp[:2]
        error = float(np.hypot(off[0], off[1]))
        ahead = min(0.6, self.speed / self.control_fps / max(error, 1e-9))
        turn = np.clip(0.7 * (yaw - state.tcp_yaw), *self._limits(self.turn_speed))
        climb = self._climb(state, goal[2] + funnel.above(error))
        return np.append(state.tcp[:2] + ahead * off, climb), state.tcp_yaw + float(turn)

    def _climb(self, state: SceneState, height: float) -> float:
        step = np.clip(0.7 * (height - state.tcp[2]), *self._limits(self.climb_speed))
        return float(state.tcp[2] + step)

    def _limits(self, speed: float) -> tuple[float, float]:
        return -speed / self.control_fps, speed / self.control_fps

    def _at(self, state: SceneState, goal: Floats, yaw: float) -> bool:
        return self._near(state, goal, self.arrived) and abs(yaw - state.tcp_yaw) < self.aligned

    def _near(self, state: SceneState, goal: Floats, tolerance: float) -> bool:
        off = goal - state.tcp
        return bool(np.hypot(off[0], off[1]) < tolerance and abs(off[2]) < tolerance)

    def _closing(self, state: SceneState) -> bool:
        fingers_moving = self.cube_size < state.width < 0.9 * MAX_WIDTH
        return fingers_moving and self._near(state, state.red, 2 * self.arrived)

    def _holds(self, state: SceneState) -> bool:
        gripped = abs(state.width - self.cube_size) < 0.05 * self.cube_size
        return gripped and self._near(state, state.red, 2 * self.arrived)

    def _is_open(self, state: SceneState) -> bool:
        return state.width > 0.9 * MAX_WIDTH

    def _stacked_at(self, state: SceneState, clearance: float = 0.0) -> Floats:
        return state.blue + np.array([0, 0, self.cube_size + clearance])

    def _decision(self, phase: Phase, position: Floats, yaw: float, target_grip: float) -> Decision:
        pose = np.concatenate([position, down_quat(yaw)])
        return Decision(ActionStep.of_one(CartesianPosition(pose), target_grip), phase)


def down_quat(yaw: float) -> Floats:
    """Unit quaternion (4,), scalar first, x > 0 for |yaw| < pi, of a tool that points down, turned by ``yaw`` rad."""
    return np.array([0.0, np.cos(yaw / 2), np.sin(yaw / 2), 0.0])


def down_yaw(quat_wxyz: Floats) -> float:
    """The ``yaw`` of ``down_quat``."""
    return float(2 * np.arctan2(quat_wxyz[2], quat_wxyz[1]))
