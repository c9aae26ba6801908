"""The layouts of HDF5 recordings that are known by their names, and where episodes are in them.

ALOHA (`record_episodes.py` of ACT and of Interbotix): a file is an episode, whose qpos, qvel and action hold six joints
and the gripper of each arm; images are pixels, or JPEGs in rows that are filled with zeros. robomimic: a file holds the
episodes /data/demo_0, ... Any other file is an episode, and each dataset that is as long as most others is a field.
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
QPOS = "observations/qpos"
DEMOS = "data"
COMPRESS_LEN = "compress_len"  # (cameras, T): bytes of each JPEG; not needed, as a JPEG says where it ends


@dataclass(frozen=True)
class Place:
    """Where an episode is in a file. ``length``: its samples."""

    layout: str
    group: str
    length: int


def layout_of(file: h5py.File) -> str:
    """The layout's name."""
    if QPOS in file and "action" in file:
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
            return _require_some(lengths[name], f"{where}, {group.name}")
    common = Counter(lengths.values()).most_common(2)
    if not common or (len(common) == 2 and common[0][1] == common[1][1]):
        raise PositronicError(
            f"{where}, {group.name}: no episode. Expected datasets whose first dimension is time, most of one length; "
            f"found lengths {lengths}."
        )
    return _require_some(common[0][0], f"{where}, {group.name}")


def _require_some(length: int, where: str) -> int:
    if not length:
        raise PositronicError(f"{where}: an episode without samples.")
    return length


def stated_fps(file: h5py.File, layout: str) -> float | None:
    """The rate that the file itself states; ALOHA's files state none."""
    rate = env_kwargs(file).get("control_freq") if layout == ROBOMIMIC else None
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def env_kwargs(file: h5py.File) -> Mapping[str, Any]:
    """The arguments of robomimic's environment, as the file notes them; empty where it does not."""
    try:
        return json.loads(file[DEMOS].attrs["env_args"])["env_kwargs"]
    except (KeyError, ValueError, TypeError):
        return {}


def _is_demo(name: str) -> bool:
    return re.fullmatch(r"demo_\d+", name) is not None


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])
