"""Stacking: the red cube is put on the blue one.

A success is both standing still, red on blue, blue where it was, and the gripper away from them. Limits are in edges of
a cube, but for the speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from positronic.hardware.robot import Scores
from positronic.hardware.sim.expert import Pace
from positronic.hardware.sim.pick_and_place import PickAndPlace, Place
from positronic.hardware.sim.state import SceneState
from positronic.hardware.sim.task import Task, above, below

RED, BLUE = "red", "blue"
SCORES = Scores("stacked", "stacking_success", "box_distance", "Distance between the cubes' centres", "cm", 1e2)


@dataclass(frozen=True)
class Stack(Task):
    """One cube on the other: ``upper`` on ``lower``."""

    things = (RED, BLUE)
    limits = ("xy", "z", "lower_shift", "clearance", "upper_speed")
    scores = SCORES

    @property
    def upper(self) -> str:
        """Name of the cube that is to be moved."""
        return RED

    @property
    def lower(self) -> str:
        """Name of the other one."""
        return BLUE if self.upper == RED else RED

    @property
    def handled(self) -> str:
        return self.upper

    @property
    def edge(self) -> float:
        """Of a cube, in m."""
        return self.config.scene.things[self.upper].size[2]

    def parts(self, state: SceneState) -> dict[str, float]:
        """Named after the cubes as they lie in this episode."""
        upper, lower, limits = state[self.upper], state[self.lower], self.config.scoring
        beside = np.linalg.norm(upper.position[:2] - lower.position[:2]) / self.edge
        higher = (upper.position[2] - lower.position[2]) / self.edge
        lifted = (lower.position[2] - self.edge / 2) / self.edge
        shift = np.linalg.norm(lower.position[:2] - lower.start[:2]) / self.edge
        clearance = np.linalg.norm(state.tcp - upper.position) / self.edge
        named = self.names
        return {
            f"{named[self.lower]}_stable": below(shift, limits["lower_shift"]),
            f"{named[self.lower]}_on_table": below(abs(lifted), limits["z"]),
            "xy_aligned": below(beside, limits["xy"]),
            "z_stacked": below(abs(higher - 1), limits["z"]),
            f"{named[self.upper]}_stable": below(upper.speed, limits["upper_speed"]),
            "gripper_clear": above(clearance, limits["clearance"]),
        }

    @property
    def names(self) -> Mapping[str, str]:
        """What the cubes are called in the score's parts."""
        return {RED: RED, BLUE: BLUE}

    def course(self, state: SceneState) -> float:
        """Distance between the cubes' centres."""
        return float(np.linalg.norm(state[self.upper].position - state[self.lower].position))

    def expert(self) -> PickAndPlace:
        return PickAndPlace(self.upper, self.edge, self._place, Pace(self.config.control_fps))

    def facts(self) -> dict[str, Any]:
        return {"cube_size": self.edge}

    def _place(self, state: SceneState) -> Place:
        lower = state[self.lower]
        return Place(lower.position, self.edge, lower.yaw, sideways=0.4 * self.edge, upright=0.2 * self.edge)


TASK = Stack
