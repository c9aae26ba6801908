"""An expert that puts a thing somewhere: the tool comes down in a funnel, lower the better it is aligned, so it never
sweeps the thing aside. A thing that is lost is simply fetched again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from positronic.hardware.sim.expert import (
    CLOSED,
    OPEN,
    Decision,
    Floats,
    Funnel,
    Pace,
    Phase,
    decision,
    is_open,
    near,
)
from positronic.hardware.sim.state import SceneState

PICK = Funnel(slope=5.0, height=0.12)
PLACE = Funnel(slope=4.0, height=0.08)


@dataclass(frozen=True)
class Place:
    """Where a thing is put down: its centre ``rise`` m above ``base`` (3,), turned by ``yaw``.

    It is there within ``sideways`` and ``upright`` m.
    """

    base: Floats
    rise: float
    yaw: float
    sideways: float
    upright: float

    def centre(self, clearance: float = 0.0) -> Floats:
        """(3,), ``clearance`` m above where the thing comes to rest."""
        return self.base + np.array([0, 0, self.rise + clearance])

    def holds(self, position: Floats) -> bool:
        """Whether a thing whose centre is at ``position`` (3,) is there, in a gripper or not."""
        off = position - self.centre()
        return bool(np.hypot(off[0], off[1]) < self.sideways and abs(off[2]) < self.upright)


@dataclass(frozen=True)
class PickAndPlace:
    """Puts ``thing``, which is ``width`` m wide between the fingers, where ``place`` says. Lengths are in m."""

    thing: str
    width: float
    place: Callable[[SceneState], Place]
    pace: Pace
    arrived: float = 0.006  # sideways and in height
    aligned: float = 0.1  # rad
    retreat: float = 0.12

    def decide(self, state: SceneState) -> Decision:
        """The next command, from the present scene alone."""
        if self.is_placed(state) and not self._holds(state):
            return self._leave(state)
        if self._holds(state):
            return self._carry(state)
        return self._pick(state)

    def is_done(self, state: SceneState) -> bool:
        """Whether the thing is where it belongs and the open gripper is out of the way."""
        risen = state.tcp[2] - self.place(state).centre()[2] > self.retreat - self.arrived
        return bool(self.is_placed(state) and risen and is_open(state))

    def is_placed(self, state: SceneState) -> bool:
        """Whether the thing is where it belongs, held or not."""
        return self.place(state).holds(state[self.thing].position)

    def _pick(self, state: SceneState) -> Decision:
        thing = state[self.thing]
        target = self.pace.towards(state, thing.position, thing.yaw, PICK)
        if self._at(state, thing.position, thing.yaw) or self._closing(state):
            return decision(Phase.GRASP, thing.position, thing.yaw, CLOSED)
        return decision(Phase.APPROACH, *target, OPEN)

    def _carry(self, state: SceneState) -> Decision:
        place = self.place(state)
        goal = place.centre(clearance=0.003)
        position, yaw = self.pace.towards(state, goal, place.yaw, PLACE)
        if self._at(state, goal, place.yaw):
            return decision(Phase.RELEASE, position, yaw, OPEN)
        rising = np.clip(1 - (position[2] - state.tcp[2]) / 0.04, 0, 1)  # lift before travelling
        position[:2] = state.tcp[:2] + (position[:2] - state.tcp[:2]) * rising
        return decision(Phase.CARRY, position, yaw, CLOSED)

    def _leave(self, state: SceneState) -> Decision:
        goal = np.append(state.tcp[:2], self.place(state).centre()[2])
        if not is_open(state):
            return decision(Phase.RELEASE, goal, state.tcp_yaw, OPEN)
        climb = self.pace.climb(state, goal[2] + self.retreat)
        return decision(Phase.RETREAT, np.append(goal[:2], climb), state.tcp_yaw, OPEN)

    def _at(self, state: SceneState, goal: Floats, yaw: float) -> bool:
        return near(state, goal, self.arrived) and abs(yaw - state.tcp_yaw) < self.aligned

    def _closing(self, state: SceneState) -> bool:
        fingers_moving = self.width < state.width and not is_open(state)
        return fingers_moving and near(state, state[self.thing].position, 2 * self.arrived)

    def _holds(self, state: SceneState) -> bool:
        gripped = abs(state.width - self.width) < 0.05 * self.width
        return gripped and near(state, state[self.thing].position, 2 * self.arrived)
