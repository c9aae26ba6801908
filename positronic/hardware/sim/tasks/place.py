"""Pick and place: the cube is put into the tray.

A success is the cube lying flat on the tray's floor, at rest, with the gripper away from it. Limits are in edges of the
cube, but for the speed, and ``inside``, which is the share of the way from the tray's middle to where the cube touches
a wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from positronic.hardware.robot import Scores
from positronic.hardware.sim.expert import Pace
from positronic.hardware.sim.pick_and_place import PickAndPlace, Place
from positronic.hardware.sim.state import SceneState
from positronic.hardware.sim.task import Task, above, below
from positronic.hardware.sim.things import WALL

CUBE, TRAY = "cube", "tray"


@dataclass(frozen=True)
class PlaceInTray(Task):
    """The cube goes into the tray, wherever in it."""

    things = (CUBE, TRAY)
    handled = CUBE
    limits = ("inside", "height", "clearance", "speed")
    scores = Scores("placed", "placing_success", "tray_distance", "Distance from the tray's middle", "cm", 1e2)

    @property
    def edge(self) -> float:
        """Of the cube, in m."""
        return self.config.scene.things[CUBE].size[2]

    def parts(self, state: SceneState) -> dict[str, float]:
        cube, limits = state[CUBE], self.config.scoring
        higher = (cube.position[2] - WALL) / self.edge
        clearance = np.linalg.norm(state.tcp - cube.position) / self.edge
        return {
            "inside": below(self._aside(state), limits["inside"]),
            "on_the_floor": below(abs(higher - 0.5), limits["height"]),
            "stable": below(cube.speed, limits["speed"]),
            "gripper_clear": above(clearance, limits["clearance"]),
        }

    def course(self, state: SceneState) -> float:
        """Distance from the cube to the tray's middle, sideways."""
        return float(np.linalg.norm(state[CUBE].position[:2] - state[TRAY].position[:2]))

    def expert(self) -> PickAndPlace:
        return PickAndPlace(CUBE, self.edge, self._place, Pace(self.config.control_fps))

    def _place(self, state: SceneState) -> Place:
        tray = state[TRAY]
        rise = WALL + self.edge / 2
        return Place(tray.position, rise, tray.yaw, sideways=0.7 * min(self._room), upright=0.2 * self.edge)

    @property
    def _room(self) -> tuple[float, float]:
        """How far the cube can be off the tray's middle along its sides, in m."""
        length, width, _ = self.config.scene.things[TRAY].size
        return (length - self.edge) / 2, (width - self.edge) / 2

    def _aside(self, state: SceneState) -> float:
        """How far off the middle the cube is, 1 where it touches a wall."""
        tray = state[TRAY]
        x, y = state[CUBE].position[:2] - tray.position[:2]
        cos, sin = np.cos(tray.yaw), np.sin(tray.yaw)
        along, across = cos * x + sin * y, cos * y - sin * x
        return float(max(abs(along) / self._room[0], abs(across) / self._room[1]))


TASK = PlaceInTray
