"""hardware=sim: a Panda that stacks two cubes, in MuJoCo. Types here, values in conf/hardware/sim.yaml.

Lengths in metres, angles in radians unless the name says degrees. A range is ``[low, high]``, drawn from uniformly.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from positronic.hardware.config import HardwareConfig


@dataclass
class CameraConfig:
    """``pos`` and ``look_at`` (3,) in the frame that carries the camera: the robot's base, or the hand for the wrist
    camera. ``up``: the direction (3,) that is upwards in the picture. ``fovy_deg``: vertical field of view."""

    pos: list[float] = MISSING
    look_at: list[float] = MISSING
    up: list[float] = MISSING
    fovy_deg: float = MISSING


@dataclass
class SceneConfig:
    """Table, cubes and where things may start. Colours are RGB 0..1; ``table_checker_rgb`` makes the table checkered,
    null leaves it plain. ``cube_gap``: least distance between the cubes' centres. ``start_*``: tool centre point."""

    cube_size: float = MISSING
    cube_mass: float = MISSING
    cube_x: list[float] = MISSING
    cube_y: list[float] = MISSING
    cube_yaw: list[float] = MISSING
    cube_gap: float = MISSING
    start_x: list[float] = MISSING
    start_y: list[float] = MISSING
    start_z: list[float] = MISSING
    red_rgb: list[float] = MISSING
    blue_rgb: list[float] = MISSING
    table_rgb: list[float] = MISSING
    table_checker_rgb: list[float] | None = None
    floor_rgb: list[float] = MISSING
    sky_top_rgb: list[float] = MISSING
    sky_horizon_rgb: list[float] = MISSING
    wrist: CameraConfig = MISSING
    exterior: CameraConfig = MISSING
    view: CameraConfig = MISSING


@dataclass
class ScoringConfig:
    """Where each part of the score stops being whole, in edges of a cube; it is zero half a limit further on.

    ``xy``: red beside blue. ``z``: red's height off one edge above blue. ``blue_shift``: blue from where it started.
    ``clearance``: at least, between tool centre point and red. ``red_speed``: m/s.
    """

    xy: float = MISSING
    z: float = MISSING
    blue_shift: float = MISSING
    clearance: float = MISSING
    red_speed: float = MISSING


@dataclass
class SimConfig(HardwareConfig):
    """``control_fps``: rate at which commands are expected, Hz. ``image_size``: height, width of the recorded images.
    ``timestep_sec``: of the physics. ``workspace_*`` (3,): commanded tool positions are clamped into this box."""

    task: str = MISSING
    control_fps: int = MISSING
    image_size: list[int] = MISSING
    timestep_sec: float = MISSING
    workspace_min: list[float] = MISSING
    workspace_max: list[float] = MISSING
    scene: SceneConfig = MISSING
    scoring: ScoringConfig = MISSING
