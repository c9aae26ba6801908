"""The scene: what is in it, where things may start, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from xml.etree.ElementTree import Element, tostring

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.hardware.sim import panda
from positronic.hardware.sim.config import CameraConfig, SceneConfig, SimConfig
from positronic.hardware.sim.engine import mujoco
from positronic.hardware.sim.mjcf import add, camera_axes, rgba
from positronic.hardware.sim.state import SceneState, Thing
from positronic.hardware.sim.things import Shape, add_thing, shape_of

CAMERAS = ("wrist", "exterior", "view")
PLACEMENT_TRIES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """Where an episode starts. ``start`` (3,): tool centre point; ``things``: name -> (3,), x, y in m, yaw in rad."""

    start: Floats
    things: dict[str, Floats]


def build_model(config: SimConfig) -> mujoco.MjModel:
    """Compile the scene. Raises PositronicError for a thing whose size is not its shape's."""
    return mujoco.MjModel.from_xml_string(tostring(build_mjcf(config), encoding="unicode"))


def build_mjcf(config: SimConfig) -> Element:
    """The scene as MJCF: options, materials, table, cameras, arm, things."""
    scene = config.scene
    model = Element("mujoco", model="panda")
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
    for name, thing in scene.things.items():
        add_thing(world, name, thing)
    panda.add_finger_coupling(model)
    panda.add_servos(add(model, "actuator"))
    return model


def sample_placement(scene: SceneConfig, rng: np.random.Generator) -> Placement:
    """Draw a start. Raises PositronicError when the things cannot be kept ``gap`` apart."""
    for _ in range(PLACEMENT_TRIES):
        places = {
            name: np.array([rng.uniform(*thing.x), rng.uniform(*thing.y)]) for name, thing in scene.things.items()
        }
        if all(np.linalg.norm(one - other) > scene.gap for one, other in combinations(places.values(), 2)):
            break
    else:
        raise PositronicError(
            f"No room for things {scene.gap} m apart: {_ranges(scene)}. Lower hardware.scene.gap or widen x and y of"
            " hardware.scene.things."
        )
    yaws = {name: rng.uniform(*thing.yaw) for name, thing in scene.things.items()}
    start = np.array([rng.uniform(*axis) for axis in (scene.start_x, scene.start_y, scene.start_z)])
    return Placement(start, {name: np.append(place, yaws[name]) for name, place in places.items()})


def place_thing(model: mujoco.MjModel, data: mujoco.MjData, name: str, shape: Shape, x_y_yaw: Floats) -> None:
    """Put a thing flat on the table."""
    x, y, yaw = x_y_yaw
    position, quat_wxyz = [x, y, shape.rise], [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    if shape.moves:
        data.joint(name).qpos[:] = [*position, *quat_wxyz]
    else:
        mocap = model.body(name).mocapid[0]
        data.mocap_pos[mocap], data.mocap_quat[mocap] = position, quat_wxyz


def read_state(data: mujoco.MjData, scene: SceneConfig, placement: Placement) -> SceneState:
    """Where everything is; ``data`` must have current kinematics."""
    tcp = data.site(panda.TCP_SITE)
    things = {
        name: _read_thing(data, name, shape_of(name, thing), placement.things[name])
        for name, thing in scene.things.items()
    }
    yaw = float(np.arctan2(tcp.xmat[1], tcp.xmat[0]))
    return SceneState(tcp=tcp.xpos.copy(), tcp_yaw=yaw, width=finger_width(data), things=things)


def finger_width(data: mujoco.MjData) -> float:
    """Metres between the finger pads."""
    return float(sum(data.joint(finger).qpos[0] for finger in panda.FINGERS))


def _read_thing(data: mujoco.MjData, name: str, shape: Shape, start: Floats) -> Thing:
    body = data.body(name)
    speed = float(np.linalg.norm(data.joint(name).qvel[:3])) if shape.moves else 0.0
    yaw = shape.least_yaw(float(np.arctan2(body.xmat[3], body.xmat[0])))
    return Thing(position=body.xpos.copy(), yaw=yaw, speed=speed, start=start)


def _ranges(scene: SceneConfig) -> str:
    return "; ".join(f"{name} in x {thing.x}, y {thing.y}" for name, thing in scene.things.items())


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
