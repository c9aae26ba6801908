"""hardware=sim and its like: a Panda at a table, in MuJoCo. Types here, values in conf/hardware/sim*.yaml.

Lengths in metres, angles in radians unless the name says degrees. A range is ``[low, high]``, drawn from uniformly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from positronic.hardware.config import HardwareConfig
from positronic.utils.fields import HEIGHT_WIDTH, RULE, Rule, above, one_of


def _row(
    length: int, expected: str, accepts: Callable[[Any], bool] = lambda number: True, **how: Any
) -> dict[str, Rule]:
    """Metadata of a field that holds ``length`` numbers."""
    return {RULE: Rule(accepts, expected, length=length, **how)}


RANGE = _row(2, "a range: [low,high], low not above high", together=lambda ends: ends[0] <= ends[1])
POINT = _row(3, "three numbers: [x,y,z]")
SIZES = {RULE: Rule(lambda length: length > 0, "lengths above 0, as many as the shape has")}
RGB = _row(3, "a colour: [red,green,blue], each from 0 to 1", lambda number: 0 <= number <= 1)


@dataclass
class CameraConfig:
    """A camera, in the frame that carries it: the robot's base, or the hand for the wrist camera.

    pos: where it is
    look_at: a point in the middle of the picture
    up: the direction that is upwards in the picture
    fovy_deg: vertical field of view
    """

    pos: list[float] = field(default=MISSING, metadata=POINT)
    look_at: list[float] = field(default=MISSING, metadata=POINT)
    up: list[float] = field(default=MISSING, metadata=POINT)
    fovy_deg: float = above(0, default=MISSING)


BOX, CYLINDER, TRAY, MARK = "box", "cylinder", "tray", "mark"


@dataclass
class ThingConfig:
    """Something on the table.

    shape: box and cylinder can be moved; a tray stands fast, and a mark is painted on the table
    size: of a box its three edges, of a cylinder its diameter and height, of a tray its inner length, inner width and
      the height of its walls, of a mark its diameter
    mass: of a box or a cylinder, in kg
    rgb: colour
    x: range of its centre
    y: range of its centre
    yaw: range
    """

    shape: str = one_of(BOX, CYLINDER, TRAY, MARK, default=MISSING)
    size: list[float] = field(default=MISSING, metadata=SIZES)
    mass: float | None = above(0, default=None)
    rgb: list[float] = field(default=MISSING, metadata=RGB)
    x: list[float] = field(default=MISSING, metadata=RANGE)
    y: list[float] = field(default=MISSING, metadata=RANGE)
    yaw: list[float] = field(default_factory=lambda: [0.0, 0.0], metadata=RANGE)


@dataclass
class SceneConfig:
    """Table, things on it, and where they and the tool may start.

    things: by name, in the order in which they are drawn
    gap: least distance between the centres of any two things
    start_x: range of the tool's starting point
    start_y: range of the tool's starting point
    start_z: range of the tool's starting point
    table_rgb: colour
    table_checker_rgb: other colour of a checkered table; null leaves it plain
    floor_rgb: colour
    sky_top_rgb: colour
    sky_horizon_rgb: colour
    wrist: camera on the hand
    exterior: camera beside the table
    view: camera of the videos, for people
    """

    things: dict[str, ThingConfig] = MISSING
    gap: float = MISSING
    start_x: list[float] = field(default=MISSING, metadata=RANGE)
    start_y: list[float] = field(default=MISSING, metadata=RANGE)
    start_z: list[float] = field(default=MISSING, metadata=RANGE)
    table_rgb: list[float] = field(default=MISSING, metadata=RGB)
    table_checker_rgb: list[float] | None = None
    floor_rgb: list[float] = field(default=MISSING, metadata=RGB)
    sky_top_rgb: list[float] = field(default=MISSING, metadata=RGB)
    sky_horizon_rgb: list[float] = field(default=MISSING, metadata=RGB)
    wrist: CameraConfig = MISSING
    exterior: CameraConfig = MISSING
    view: CameraConfig = MISSING


@dataclass
class SimConfig(HardwareConfig):
    """A Panda at a table.

    task: the instruction
    task_name: which task it is: a file of positronic/hardware/sim/tasks, or a module of your own (my_package.my_task)
    control_fps: rate at which commands are expected, in Hz
    image_size: height and width of the recorded images
    timestep_sec: of the physics
    workspace_min: commanded tool positions are clamped into a box from here
    workspace_max: to here
    scene: table, things on it, and where they may start
    scoring: name of a limit -> where its part of the score stops being whole; it is zero half a limit further on
    """

    task: str = MISSING
    task_name: str = MISSING
    control_fps: int = above(0, default=MISSING)
    image_size: list[int] = field(default=MISSING, metadata=HEIGHT_WIDTH)
    timestep_sec: float = above(0, default=MISSING)
    workspace_min: list[float] = field(default=MISSING, metadata=POINT)
    workspace_max: list[float] = field(default=MISSING, metadata=POINT)
    scene: SceneConfig = MISSING
    scoring: dict[str, float] = MISSING
