"""hardware=sim: a Panda that stacks two cubes, in MuJoCo. Types here, values in conf/hardware/sim.yaml.

Lengths in metres, angles in radians unless the name says degrees. A range is ``[low, high]``, drawn from uniformly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from positronic.hardware.config import HardwareConfig
from positronic.utils.fields import HEIGHT_WIDTH, RULE, Rule, above


def _row(
    length: int, expected: str, accepts: Callable[[Any], bool] = lambda number: True, **how: Any
) -> dict[str, Rule]:
    """Metadata of a field that holds ``length`` numbers."""
    return {RULE: Rule(accepts, expected, length=length, **how)}


RANGE = _row(2, "a range: [low,high], low not above high", together=lambda ends: ends[0] <= ends[1])
POINT = _row(3, "three numbers: [x,y,z]")
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


@dataclass
class SceneConfig:
    """Table, cubes and where things may start.

    cube_size: edge of a cube
    cube_mass: in kg
    cube_x: range of the cubes
    cube_y: range of the cubes
    cube_yaw: range of the cubes
    cube_gap: least distance between the cubes' centres
    start_x: range of the tool's starting point
    start_y: range of the tool's starting point
    start_z: range of the tool's starting point
    red_rgb: colour of the cube to be moved
    blue_rgb: colour of the cube below
    table_rgb: colour
    table_checker_rgb: other colour of a checkered table; null leaves it plain
    floor_rgb: colour
    sky_top_rgb: colour
    sky_horizon_rgb: colour
    wrist: camera on the hand
    exterior: camera beside the table
    view: camera of the videos, for people
    """

    cube_size: float = above(0, default=MISSING)
    cube_mass: float = above(0, default=MISSING)
    cube_x: list[float] = field(default=MISSING, metadata=RANGE)
    cube_y: list[float] = field(default=MISSING, metadata=RANGE)
    cube_yaw: list[float] = field(default=MISSING, metadata=RANGE)
    cube_gap: float = MISSING
    start_x: list[float] = field(default=MISSING, metadata=RANGE)
    start_y: list[float] = field(default=MISSING, metadata=RANGE)
    start_z: list[float] = field(default=MISSING, metadata=RANGE)
    red_rgb: list[float] = field(default=MISSING, metadata=RGB)
    blue_rgb: list[float] = field(default=MISSING, metadata=RGB)
    table_rgb: list[float] = field(default=MISSING, metadata=RGB)
    table_checker_rgb: list[float] | None = None
    floor_rgb: list[float] = field(default=MISSING, metadata=RGB)
    sky_top_rgb: list[float] = field(default=MISSING, metadata=RGB)
    sky_horizon_rgb: list[float] = field(default=MISSING, metadata=RGB)
    wrist: CameraConfig = MISSING
    exterior: CameraConfig = MISSING
    view: CameraConfig = MISSING


@dataclass
class ScoringConfig:
    """Where each part of the score stops being whole, in edges of a cube; it is zero half a limit further on.

    xy: red beside blue
    z: red's height off one edge above blue
    blue_shift: blue from where it started
    clearance: at least, between the tool and red
    red_speed: in m/s
    """

    xy: float = above(0, default=MISSING)
    z: float = above(0, default=MISSING)
    blue_shift: float = above(0, default=MISSING)
    clearance: float = above(0, default=MISSING)
    red_speed: float = above(0, default=MISSING)


@dataclass
class SimConfig(HardwareConfig):
    """A Panda that stacks two cubes.

    task: the instruction
    control_fps: rate at which commands are expected, in Hz
    image_size: height and width of the recorded images
    timestep_sec: of the physics
    workspace_min: commanded tool positions are clamped into a box from here
    workspace_max: to here
    scene: table, cubes and where things may start
    scoring: what counts as a success
    """

    task: str = MISSING
    control_fps: int = above(0, default=MISSING)
    image_size: list[int] = field(default=MISSING, metadata=HEIGHT_WIDTH)
    timestep_sec: float = above(0, default=MISSING)
    workspace_min: list[float] = field(default=MISSING, metadata=POINT)
    workspace_max: list[float] = field(default=MISSING, metadata=POINT)
    scene: SceneConfig = MISSING
    scoring: ScoringConfig = MISSING
