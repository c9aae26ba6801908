"""The layouts of HDF5 recordings that are known by their names: where episodes are and what their numbers are.

ALOHA (`record_episodes.py` of ACT and of Interbotix): a file is an episode at 50 Hz; qpos and action hold, for each
arm, six joints in rad and the gripper, 1 = open; images are raw RGB, or JPEGs in rows that are filled with zeros.
There, `cv2.imencode` was given RGB, which it takes for BGR: any other reader of JPEG finds red and blue swapped.

robomimic: a file holds the episodes /data/demo_0, ...; `env_args` says the rate and the controller; quaternions are x,
y, z, w; positions are in the world of the simulation; actions are deltas from -1 to 1 unless the controller says other.

Any other file is an episode, and each dataset as long as the others is a field.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from positronic.errors import PositronicError
from positronic.importing.hdf5_file import datasets

if TYPE_CHECKING:
    import h5py

ALOHA, ROBOMIMIC, OTHER = "aloha", "robomimic", "other"
ALOHA_SIDES = ("left", "right")
ALOHA_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
ALOHA_PER_JOINT = ("observations/qpos", "observations/qvel", "observations/effort", "action")
ALOHA_IMAGES = "observations/images"
ALOHA_FPS = 50
COMPRESS_LEN = "compress_len"  # (cameras, T): bytes of each JPEG; not needed, as a JPEG says where it ends
DEMOS = "data"
ENV_ARGS = "env_args"
POSITION, QUATERNION = ("x", "y", "z"), ("qx", "qy", "qz", "qw")


@dataclass(frozen=True)
class Place:
    """Where an episode is in a file. ``length``: its samples."""

    layout: str
    group: str
    length: int


def layout_of(file: h5py.File) -> str:
    """The layout's name."""
    if "observations/qpos" in file and "action" in file:
        return ALOHA
    demos = file.get(DEMOS)
    if demos is not None and hasattr(demos, "keys") and any(_is_demo(name) for name in demos):
        return ROBOMIMIC
    return OTHER


def places(file: h5py.File) -> list[Place]:
    """The file's episodes, in order."""
    layout = layout_of(file)
    demos = sorted(filter(_is_demo, file[DEMOS]), key=_number) if layout == ROBOMIMIC else []
    groups = [f"{DEMOS}/{name}" for name in demos] or ["/"]
    return [Place(layout, group, length(file[group], str(file.filename))) for group in groups]


def length(group: h5py.Group, where: str) -> int:
    """Samples of the episode: of its action where there is one, else as many as most datasets have."""
    lengths = {name: data.shape[0] for name, data in datasets(group).items() if data.shape}
    for name in ("action", "actions"):
        if name in lengths:
            return lengths[name]
    common = Counter(lengths.values()).most_common(2)
    if not common or (len(common) == 2 and common[0][1] == common[1][1]):
        raise PositronicError(
            f"{where}, {group.name}: no episode. Expected datasets whose first dimension is time, most of one length; "
            f"found lengths {lengths}."
        )
    return common[0][0]


def dim_names(layout: str, field: str, size: int) -> tuple[str, ...] | None:
    """What the numbers of a sample are, where the layout says so: ``left_waist``, ...; or ``qx``, ``qy``, ``qz``,
    ``qw``."""
    if layout == ALOHA and field in ALOHA_PER_JOINT and size == len(ALOHA_SIDES) * len(ALOHA_JOINTS):
        return tuple(f"{side}_{joint}" for side in ALOHA_SIDES for joint in ALOHA_JOINTS)
    if layout == ROBOMIMIC and field.endswith(("eef_quat", "eef_quat_site")) and size == len(QUATERNION):
        return QUATERNION
    if layout == ROBOMIMIC and field.endswith("eef_pos") and size == len(POSITION):
        return POSITION
    return None


def env_args(file: h5py.File) -> Mapping[str, Any]:
    """What robomimic notes of the environment; empty where it does not."""
    try:
        return json.loads(file[DEMOS].attrs[ENV_ARGS])
    except (KeyError, ValueError, TypeError):
        return {}


def known_fps(file: h5py.File, layout: str) -> float | None:
    """The rate that the file itself states; ALOHA's files state none."""
    rate = env_args(file).get("env_kwargs", {}).get("control_freq") if layout == ROBOMIMIC else None
    return float(rate) if rate else None


def _is_demo(name: str) -> bool:
    return re.fullmatch(r"demo_\d+", name) is not None


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])
