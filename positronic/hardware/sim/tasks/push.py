"""Pushing: the puck, too wide for the gripper to hold, is pushed to the target.

A success is the puck's centre near the target's, the puck flat on the table, at rest, and the gripper away from it.
Limits are in m, and m/s for the speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from positronic.hardware.robot import Scores
from positronic.hardware.sim.expert import CLOSED, Decision, Floats, Funnel, Pace, Phase, decision
from positronic.hardware.sim.state import SceneState
from positronic.hardware.sim.task import Task, above, below
from positronic.hardware.sim.things import least_yaw

PUCK, TARGET = "puck", "target"
BEHIND = Funnel(slope=3.0, height=0.10)


@dataclass(frozen=True)
class Push(Task):
    """The puck goes to the target."""

    things = (PUCK, TARGET)
    handled = PUCK
    limits = ("distance", "height", "clearance", "speed")
    scores = Scores("pushed", "pushing_success", "target_distance", "Distance from the puck to the target", "cm", 1e2)

    def parts(self, state: SceneState) -> dict[str, float]:
        puck, limits = state[PUCK], self.config.scoring
        lifted = puck.position[2] - self.config.scene.things[PUCK].size[1] / 2
        return {
            "on_target": below(self.course(state), limits["distance"]),
            "on_table": below(abs(lifted), limits["height"]),
            "stable": below(puck.speed, limits["speed"]),
            "gripper_clear": above(float(np.linalg.norm(state.tcp - puck.position)), limits["clearance"]),
        }

    def course(self, state: SceneState) -> float:
        """Distance from the puck to the target, sideways."""
        return float(np.linalg.norm(state[PUCK].position[:2] - state[TARGET].position[:2]))

    def expert(self) -> Pusher:
        return Pusher(self.config.scene.things[PUCK].size[0] / 2, Pace(self.config.control_fps))


@dataclass(frozen=True)
class Pusher:
    """Comes down behind the puck, as the target lies, and pushes it along the line between them. A puck that slips
    aside is pushed from behind anew. Lengths in m, speeds in m/s, ``radius`` of the puck."""

    radius: float
    pace: Pace
    push_speed: float = 0.12
    height: float = 0.02  # of the tool while it pushes
    gap: float = 0.03  # from the puck's rim to where the tool comes down
    touching: float = 0.010  # from the puck's rim to the tool's middle, when they touch
    aside: float = 0.012  # of the line, where pushing would turn the puck away
    steering: float = 0.6  # share of the sideways error that one command puts right
    there: float = 0.006  # the puck from the target
    retreat: float = 0.12
    funnel: Funnel = BEHIND

    def decide(self, state: SceneState) -> Decision:
        """The next command, from the present scene alone."""
        off = state[TARGET].position[:2] - state[PUCK].position[:2]
        distance = float(np.hypot(off[0], off[1]))
        if distance < self.there:
            return self._leave(state)
        ahead = off / distance
        along, aside = self._seen_from_puck(state, ahead)
        if self._behind(state, along, aside):
            return self._push(state, ahead, aside, distance)
        goal = state[PUCK].position[:2] - ahead * (self.radius + self.gap)
        position, yaw = self.pace.towards(state, np.append(goal, self.height), face(ahead), self.funnel)
        return decision(Phase.APPROACH, position, yaw, CLOSED)

    def is_done(self, state: SceneState) -> bool:
        """Whether the puck is at the target and the tool out of the way."""
        off = state[TARGET].position[:2] - state[PUCK].position[:2]
        return bool(np.hypot(off[0], off[1]) < self.there and state.tcp[2] > self.retreat - self.there)

    def _push(self, state: SceneState, ahead: Floats, aside: float, distance: float) -> Decision:
        step = min(self.push_speed / self.pace.control_fps, distance)
        across = np.array([-ahead[1], ahead[0]])
        place = state.tcp[:2] + step * ahead - self.steering * aside * across
        position = np.append(place, self.pace.climb(state, self.height))
        return decision(Phase.PUSH, position, self.pace.turn(state, face(ahead)), CLOSED)

    def _leave(self, state: SceneState) -> Decision:
        position = np.append(state.tcp[:2], self.pace.climb(state, self.retreat))
        return decision(Phase.RETREAT, position, state.tcp_yaw, CLOSED)

    def _behind(self, state: SceneState, along: float, aside: float) -> bool:
        """Whether the tool is low, and the puck straight ahead of it."""
        low = state.tcp[2] < self.height + 0.01
        near = -(self.radius + self.gap + 0.01) < along < -0.5 * self.radius
        return low and near and abs(aside) < self.aside

    def _seen_from_puck(self, state: SceneState, ahead: Floats) -> tuple[float, float]:
        """How far the tool is along the line to the target, and to its left."""
        x, y = state.tcp[:2] - state[PUCK].position[:2]
        return float(x * ahead[0] + y * ahead[1]), float(y * ahead[0] - x * ahead[1])


def face(ahead: Floats) -> float:
    """Yaw of the closed fingers, which are about as long as wide, with a face towards ``ahead`` (2,)."""
    return least_yaw(float(np.arctan2(ahead[1], ahead[0])), np.pi / 2)


TASK = Push
