"""What ALOHA's and robomimic's layouts say of their numbers and pictures, as names and beliefs of the fields.

ALOHA's files hold names and no conventions: what `record_episodes.py` of ACT and of Interbotix does is believed, and
somebody must agree. robomimic's come from robosuite, whose observations are defined in its source (`robot_env`,
`manipulation`), and `env_args` says which controller took the actions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from positronic.importing import hdf5_layouts as layouts
from positronic.importing.hdf5_pictures import CHW, HWC
from positronic.importing.mapping import BGR, RGB
from positronic.importing.source import COMMANDED, IMAGE, MEASURED, Belief, FieldInfo

if TYPE_CHECKING:
    import h5py

SIDES = ("left", "right")
ALOHA_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
ALOHA_ROLES = {
    **dict.fromkeys((layouts.QPOS, "observations/qvel", "observations/effort"), MEASURED),
    "action": COMMANDED,
}
ALOHA_FPS = 50.0
ALOHA_NAMES = tuple(f"{side}_{joint}" for side in SIDES for joint in ALOHA_JOINTS)
IN_RAD = Belief("rad", "ALOHA notes its joints in rad")
ALOHA_BELIEFS = {
    "unit": IN_RAD,
    "open": Belief(1.0, "ALOHA scales its grippers so that 1 is open"),
    "closed": Belief(0.0, "ALOHA scales its grippers so that 0 is closed"),
}
RAW_CHANNELS = Belief(RGB, "ALOHA's cameras give RGB, which it stores as it is")
JPEG_CHANNELS = Belief(BGR, "ALOHA gives RGB to OpenCV's encoder of JPEG, which takes it for BGR")

PANDA = "Panda"
PANDA_JOINTS = tuple(f"joint{number}" for number in range(1, 8))
PANDA_FINGERS = ("gripper", "gripper_mirrored")  # the second finger's number is the first's, negative
PANDA_OPEN = 0.04  # m, a finger's way
ACTIONS = "actions"
DELTAS = ("delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper")
ABSOLUTES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
IN_METRES = Belief("m", "robosuite's positions are in m, in the frame of its world", known=True)


def with_beliefs(fields: Mapping[str, FieldInfo], file: h5py.File, layout: str) -> dict[str, FieldInfo]:
    """The fields with what the file's layout says of them."""
    say: Mapping[str, Callable[..., FieldInfo]] = {layouts.ALOHA: _of_aloha, layouts.ROBOMIMIC: _of_robomimic}
    about = layouts.env_kwargs(file)
    return {name: say[layout](name, info, about) if layout in say else info for name, info in fields.items()}


def _of_aloha(name: str, info: FieldInfo, about: Mapping[str, Any]) -> FieldInfo:
    believed = {"fps": Belief(ALOHA_FPS, "ALOHA records at 50 Hz")}
    if info.kind == IMAGE:
        believed["channels"] = RAW_CHANNELS if info.encoding in (HWC, CHW) else JPEG_CHANNELS
    if name not in ALOHA_ROLES or info.shape != (len(ALOHA_NAMES),):
        return replace(info, believed=believed)
    return replace(info, names=ALOHA_NAMES, role=ALOHA_ROLES[name], believed=believed | ALOHA_BELIEFS)


def _of_robomimic(name: str, info: FieldInfo, about: Mapping[str, Any]) -> FieldInfo:
    rate = about.get("control_freq")
    if rate:
        why = "the file's env_args say so"
        info = replace(info, rate_hz=float(rate), believed={"fps": Belief(float(rate), why, known=True)})
    if info.kind == IMAGE:
        return _saying(info, channels=Belief(RGB, "robosuite renders RGB", known=True))
    if name == ACTIONS and info.shape == (len(DELTAS),):
        return _of_actions(info, about)
    quantity = name.partition("robot0_")[2]
    return replace(_of_observation(quantity, info, PANDA in about.get("robots", [])), role=MEASURED if quantity else "")


def _of_observation(quantity: str, info: FieldInfo, is_panda: bool) -> FieldInfo:
    if quantity == "eef_pos" and info.shape == (3,):
        return _saying(replace(info, names=("x", "y", "z")), unit=IN_METRES)
    if quantity in ("eef_quat", "eef_quat_site") and info.shape == (4,):
        order = Belief("quat_xyzw", "robosuite's quaternions are x, y, z, w", known=True)
        return _saying(replace(info, names=("qx", "qy", "qz", "qw")), rotation=order)
    if quantity in ("joint_pos", "joint_vel") and is_panda and info.shape == (len(PANDA_JOINTS),):
        return _saying(
            replace(info, names=PANDA_JOINTS), unit=Belief("rad", "robosuite's joints are in rad", known=True)
        )
    if quantity == "gripper_qpos" and is_panda and info.shape == (len(PANDA_FINGERS),):
        why = "a Panda's finger in robosuite goes from 0, closed, to 0.04 m"
        fingers = replace(info, names=PANDA_FINGERS)
        return _saying(fingers, open=Belief(PANDA_OPEN, why, known=True), closed=Belief(0.0, why, known=True))
    return info


def _of_actions(info: FieldInfo, about: Mapping[str, Any]) -> FieldInfo:
    """Deltas get names that no pose has: they say where to only together with where the robot is."""
    why = "robosuite's gripper takes -1 for open, 1 for closed"
    info = _saying(info, open=Belief(-1.0, why, known=True), closed=Belief(1.0, why, known=True))
    controllers = [each for each in _controllers(about) if each.get("type") == "OSC_POSE"]
    if any(is_absolute(each) for each in controllers):
        how = Belief("rotvec", "robosuite's controller takes absolute rotation vectors", known=True)
        return _saying(replace(info, names=ABSOLUTES, role=COMMANDED), unit=IN_METRES, rotation=how)
    return replace(info, names=DELTAS if controllers else None, role=COMMANDED)


def is_absolute(controller: Mapping[str, Any]) -> bool:
    """Whether its actions are poses; by the names of robosuite up to 1.4, or of later ones."""
    return controller.get("control_delta") is False or controller.get("input_type") == "absolute"


def _controllers(about: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping with a ``type`` in the environment's arguments, however deep."""
    if isinstance(about, Mapping):
        if isinstance(about.get("type"), str):
            yield about
        for inner in about.values():
            yield from _controllers(inner)
    elif isinstance(about, list):
        for inner in about:
            yield from _controllers(inner)


def _saying(info: FieldInfo, **believed: Belief) -> FieldInfo:
    return replace(info, believed={**info.believed, **believed})
