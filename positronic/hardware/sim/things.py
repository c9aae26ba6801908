"""Things on the table: their shapes as MJCF, and which of their yaws look alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from positronic.errors import PositronicError
from positronic.hardware.sim.config import BOX, CYLINDER, MARK, TRAY, ThingConfig
from positronic.hardware.sim.mjcf import add, rgba

WALL = 0.006  # m, a tray's floor too
PAINT = 0.0006  # m that a mark rises above the table, so that both are not drawn at one height
SIZES = {
    BOX: ("x", "y", "z"),
    CYLINDER: ("diameter", "height"),
    TRAY: ("inner length", "inner width", "height of the walls"),
    MARK: ("diameter",),
}


@dataclass(frozen=True)
class Shape:
    """``rise``: m from the table to the centre. ``turn``: rad after which it looks the same, None for what is round.
    ``moves``: whether it can be moved."""

    rise: float
    turn: float | None
    moves: bool

    def least_yaw(self, yaw: float) -> float:
        """The yaw in [-turn / 2, turn / 2) that looks like ``yaw``."""
        return 0.0 if self.turn is None else least_yaw(yaw, self.turn)


def least_yaw(yaw: float, turn: float) -> float:
    """The yaw in [-turn / 2, turn / 2) of what looks like turned by ``yaw``, and the same after each ``turn``."""
    return float((yaw + turn / 2) % turn - turn / 2)


def shape_of(name: str, thing: ThingConfig) -> Shape:
    """The shape of the thing called ``name``. Raises PositronicError when its size or mass is not of its shape."""
    _check(name, thing)
    size = thing.size
    if thing.shape in (CYLINDER, MARK):
        return Shape(rise=size[1] / 2 if thing.shape == CYLINDER else 0.0, turn=None, moves=thing.shape == CYLINDER)
    turn = np.pi / 2 if size[0] == size[1] else np.pi
    return Shape(rise=size[2] / 2 if thing.shape == BOX else 0.0, turn=turn, moves=thing.shape == BOX)


def add_thing(world: Element, name: str, thing: ThingConfig) -> None:
    """Append the thing, at the origin. Raises PositronicError when its size or mass is not of its shape."""
    if shape_of(name, thing).moves:
        body = add(world, "body", name=name)
        add(body, "freejoint", name=name)
    else:
        body = add(world, "body", name=name, mocap=True)
    ADD[thing.shape](body, name, thing)


def _add_box(body: Element, name: str, thing: ThingConfig) -> None:
    half = [edge / 2 for edge in thing.size]
    add(body, "geom", name=name, class_="solid", type="box", size=half, mass=thing.mass, rgba=rgba(thing.rgb))


def _add_cylinder(body: Element, name: str, thing: ThingConfig) -> None:
    half = [length / 2 for length in thing.size]
    add(body, "geom", name=name, class_="solid", type="cylinder", size=half, mass=thing.mass, rgba=rgba(thing.rgb))


def _add_tray(body: Element, name: str, thing: ThingConfig) -> None:
    """A floor, and four walls around it; the long ones close the corners."""
    length, width, height = thing.size
    how = {"class_": "solid", "type": "box", "rgba": rgba(thing.rgb)}
    add(body, "geom", name=name, size=[length / 2, width / 2, WALL / 2], pos=[0, 0, WALL / 2], **how)
    for side in (-1, 1):
        across = {"size": [WALL / 2, width / 2, height / 2], "pos": [side * (length + WALL) / 2, 0, height / 2]}
        along = {
            "size": [length / 2 + WALL, WALL / 2, height / 2],
            "pos": [0, side * (width + WALL) / 2, height / 2],
        }
        add(body, "geom", **across, **how)
        add(body, "geom", **along, **how)


def _add_mark(body: Element, name: str, thing: ThingConfig) -> None:
    disc = {"type": "cylinder", "size": [thing.size[0] / 2, PAINT / 2], "pos": [0, 0, PAINT / 2]}
    add(body, "geom", name=name, rgba=rgba(thing.rgb), **disc)


ADD: dict[str, Callable[[Element, str, ThingConfig], None]] = {
    BOX: _add_box,
    CYLINDER: _add_cylinder,
    TRAY: _add_tray,
    MARK: _add_mark,
}


def _check(name: str, thing: ThingConfig) -> None:
    wanted = SIZES[thing.shape]
    if len(thing.size) != len(wanted):
        raise PositronicError(
            f"hardware.scene.things.{name}.size={list(thing.size)}: expected, of a {thing.shape}, {', '.join(wanted)}."
        )
    if (thing.mass is None) == (thing.shape in (BOX, CYLINDER)):
        expected = "a mass in kg" if thing.mass is None else "null"
        raise PositronicError(
            f"hardware.scene.things.{name}.mass={thing.mass}: expected {expected}, as it is a {thing.shape}."
        )
