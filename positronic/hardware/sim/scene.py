"""The stacking scene: what is in it, where things may start, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element, tostring

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.hardware.sim import panda
from positronic.hardware.sim.config import CameraConfig, SceneConfig, SimConfig
from positronic.hardware.sim.engine import mujoco
from positronic.hardware.sim.mjcf import add, camera_axes, rgba

RED, BLUE = "red", "blue"
CAMERAS = ("wrist", "exterior", "view")
PLACEMENT_TRIES = 1000


@dataclass(frozen=True)
class Placement:
    """Where an episode starts. ``start`` (3,): tool centre point; ``red`` and ``blue`` (3,): x, y in m, yaw in rad."""

    start: NDArray[np.float64]
    red: NDArray[np.float64]
    blue: NDArray[np.float64]


@dataclass(frozen=True)
class SceneState:
    """The whole truth at one moment; positions (3,) in m, yaws in rad, a cube's yaw in [-pi/4, pi/4).

    ``width``: m between the finger pads. ``red_speed``: m/s. ``blue_start`` (3,): where blue was at the reset.
    """

    tcp: NDArray[np.float64]
    tcp_yaw: float
    width: float
    red: NDArray[np.float64]
    red_yaw: float
    red_speed: float
    blue: NDArray[np.float64]
    blue_yaw: float
    blue_start: NDArray[np.float64]


def build_model(config: SimConfig) -> mujoco.MjModel:
    """Compile the scene."""
    return mujoco.MjModel.from_xml_string(tostring(build_mjcf(config), encoding="unicode"))


def build_mjcf(config: SimConfig) -> Element:
    """The scene as MJCF: options, materials, table, cubes, cameras, arm."""
    scene = config.scene
    model = Element("mujoco", model="panda_stack")
    add(model, "compiler", angle="radian", autolimits=True)
    add(model, "option", timestep=config.timestep_sec, integrator="implicitfast", cone="elliptic", impratio=10)
    add(model, "statistic", extent=1, center=[0.4, 0, 0.2])  # lengths in <visual><map> are multiples of this extent
    _add_visual(model)
    _add_defaults(model)
    _add_materials(model, scene)
    world = add(model, "worldbody")
    _add_surroundings(world)
    _add_camera(world, "exterior", scene.exterior)
    _add_camera(world, "view", scene.view)
    panda.add_arm(world, scene.wrist)
    for name, color in ((RED, scene.red_rgb), (BLUE, scene.blue_rgb)):
        _add_cube(world, name, scene, color)
    panda.add_finger_coupling(model)
    panda.add_servos(add(model, "actuator"))
    return model


def sample_placement(scene: SceneConfig, rng: np.random.Generator) -> Placement:
    """Draw a start. Raises PositronicError when the cubes cannot be kept ``cube_gap`` apart."""
    for _ in range(PLACEMENT_TRIES):
        red, blue = (np.array([rng.uniform(*scene.cube_x), rng.uniform(*scene.cube_y)]) for _ in range(2))
        if np.linalg.norm(red - blue) > scene.cube_gap:
            break
    else:
        raise PositronicError(
            f"No room for two cubes {scene.cube_gap} m apart in x {scene.cube_x}, y {scene.cube_y}."
            " Lower hardware.scene.cube_gap or widen hardware.scene.cube_x and cube_y."
        )
    red_yaw, blue_yaw = rng.uniform(*scene.cube_yaw, size=2)
    start = np.array([rng.uniform(*axis) for axis in (scene.start_x, scene.start_y, scene.start_z)])
    return Placement(start=start, red=np.append(red, red_yaw), blue=np.append(blue, blue_yaw))


def place_cube(data: mujoco.MjData, name: str, x_y_yaw: NDArray[np.float64], cube_size: float) -> None:
    """Put a cube flat on the table."""
    x, y, yaw = x_y_yaw
    data.joint(name).qpos[:] = [x, y, cube_size / 2, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]


def read_state(data: mujoco.MjData, blue_start: NDArray[np.float64]) -> SceneState:
    """Where everything is; ``data`` must have current kinematics."""
    tcp = data.site(panda.TCP_SITE)
    red, blue = data.body(RED), data.body(BLUE)
    return SceneState(
        tcp=tcp.xpos.copy(),
        tcp_yaw=float(np.arctan2(tcp.xmat[1], tcp.xmat[0])),
        width=finger_width(data),
        red=red.xpos.copy(),
        red_yaw=_cube_yaw(red.xmat),
        red_speed=float(np.linalg.norm(data.joint(RED).qvel[:3])),
        blue=blue.xpos.copy(),
        blue_yaw=_cube_yaw(blue.xmat),
        blue_start=blue_start,
    )


def finger_width(data: mujoco.MjData) -> float:
    """Metres between the finger pads."""
    return float(sum(data.joint(finger).qpos[0] for finger in panda.FINGERS))


def _cube_yaw(xmat: NDArray[np.float64]) -> float:
    yaw = np.arctan2(xmat[3], xmat[0])
    return float((yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4)


def _add_visual(model: Element) -> None:
    visual = add(model, "visual")
    add(visual, "headlight", ambient=[0.4] * 3, diffuse=[0.4] * 3, specular=[0.1] * 3)
    add(visual, "map", znear=0.01)


def _add_defaults(model: Element) -> None:
    default = add(model, "default")
    add(default, "geom", contype=0, conaffinity=0)
    add(default, "joint", damping=1, armature=0.1)
    touching = {"contype": 1, "conaffinity": 1, "condim": 4, "solref": [0.01, 1]}
    add(add(default, "default", class_="solid"), "geom", friction=[1, 0.005, 0.0001], **touching)
    add(add(default, "default", class_="pad"), "geom", friction=[2, 0.05, 0.0002], **touching)


def _add_materials(model: Element, scene: SceneConfig) -> None:
    asset = add(model, "asset")
    sky = {"rgb1": scene.sky_top_rgb, "rgb2": scene.sky_horizon_rgb}
    add(asset, "texture", name="sky", type="skybox", builtin="gradient", width=64, height=384, **sky)
    matt = {"specular": 0, "reflectance": 0}
    add(asset, "material", name="floor", rgba=rgba(scene.floor_rgb), **matt)
    if scene.table_checker_rgb is None:
        add(asset, "material", name="table", rgba=rgba(scene.table_rgb), **matt)
        return
    squares = {"rgb1": scene.table_rgb, "rgb2": scene.table_checker_rgb}
    add(asset, "texture", name="table", type="2d", builtin="checker", width=64, height=64, **squares)
    add(asset, "material", name="table", texture="table", texrepeat=[8, 8], **matt)


def _add_surroundings(world: Element) -> None:
    add(world, "light", pos=[0.4, -0.6, 1.8], dir=[0, 0.3, -1], directional=True, diffuse=[0.6] * 3)
    table = {"size": [0.6, 0.6, 0.02], "pos": [0.4, 0, -0.02], "material": "table"}
    add(world, "geom", name="table", class_="solid", type="box", **table)
    for x, y in ((-0.14, -0.54), (-0.14, 0.54), (0.94, -0.54), (0.94, 0.54)):
        add(world, "geom", type="box", size=[0.03, 0.03, 0.34], pos=[x, y, -0.38], rgba=panda.DARK)
    add(world, "geom", type="box", size=[20, 20, 0.01], pos=[0, 0, -0.73], material="floor")  # planes draw slowly


def _add_camera(world: Element, name: str, camera: CameraConfig) -> None:
    axes = camera_axes(camera.pos, camera.look_at, camera.up)
    add(world, "camera", name=name, pos=camera.pos, xyaxes=axes, fovy=camera.fovy_deg)


def _add_cube(world: Element, name: str, scene: SceneConfig, rgb: list[float]) -> None:
    cube = add(world, "body", name=name)
    add(cube, "freejoint", name=name)
    half = [scene.cube_size / 2] * 3
    add(cube, "geom", name=name, class_="solid", type="box", size=half, mass=scene.cube_mass, rgba=rgba(rgb))
