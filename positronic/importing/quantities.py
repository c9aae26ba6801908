"""What a raw key of a robot holds, and which numbers of a recording a mapping puts there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from positronic import keys
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.importing.mapping import SignalMapping
from positronic.importing.source import FieldInfo

JOINTS, SPEEDS, POSE, GRIPPER, CAMERA = "joints", "speeds", "pose", "gripper", "camera"
OF_KEY = {
    keys.JOINT_POSITION: JOINTS,
    keys.COMMAND_JOINTS: JOINTS,
    keys.COMMAND_JOINT_DELTAS: JOINTS,
    keys.JOINT_VELOCITY: SPEEDS,
    keys.EE_POSE: POSE,
    keys.COMMAND_POSE: POSE,
    keys.GRIP: GRIPPER,
    keys.TARGET_GRIP: GRIPPER,
}
NEEDED = {JOINTS: ("unit",), SPEEDS: ("unit",), POSE: ("unit", "rotation"), GRIPPER: ("open", "closed"), CAMERA: ()}
"""Conventions without which a quantity cannot be imported."""
ALLOWED = {**NEEDED, POSE: ("unit", "rotation", "base"), CAMERA: ("channels",)}
ANY = ("dims", "clock")  # conventions of every quantity


@dataclass(frozen=True)
class Quantity:
    """``kind``: one of the words above. ``arm``: whose it is; None of a camera."""

    kind: str
    arm: Arm | None = None


class Number(NamedTuple):
    """One number of a sample: of which field, at which place in it, and its name where the recording has one."""

    field: str
    place: int
    name: str | None


def quantity_of(key: str, embodiment: Embodiment) -> Quantity | None:
    """What the raw key holds; None for one that this robot does not have."""
    if key.startswith(keys.IMAGE_PREFIX):
        return Quantity(CAMERA) if key.removeprefix(keys.IMAGE_PREFIX) in embodiment.cameras else None
    plain, name = keys.split_arm(key)
    arm = embodiment.by_name.get(name)
    if arm is None or plain not in OF_KEY or (OF_KEY[plain] == GRIPPER and arm.gripper is None):
        return None
    return Quantity(OF_KEY[plain], arm)


def keys_of(embodiment: Embodiment) -> list[str]:
    """Every raw key that the robot has."""
    of_arms = [arm.key(plain) for arm in embodiment.arms for plain in OF_KEY]
    cameras = [f"{keys.IMAGE_PREFIX}{camera}" for camera in embodiment.cameras]
    return [key for key in (*of_arms, *cameras) if quantity_of(key, embodiment)]


def numbers_of(signal: SignalMapping, fields: Mapping[str, FieldInfo]) -> list[Number]:
    """All numbers of the signal's fields, behind each other."""
    return [number for field in signal.fields for number in _of_field(field, fields[field])]


def chosen(signal: SignalMapping, fields: Mapping[str, FieldInfo]) -> list[Number]:
    """Those that the mapping takes, in the raw signal's order. Raises KeyError for one that is not there, or not only
    once."""
    there = numbers_of(signal, fields)
    return there if signal.dims is None else [there[place_of(dim, there)] for dim in signal.dims]


def place_of(dim: str | int, there: list[Number]) -> int:
    """Where a number is among ``there``, by its name or its place. Raises KeyError."""
    found = [place for place, number in enumerate(there) if dim in (number.name, place)]
    if len(found) != 1:
        raise KeyError(dim)
    return found[0]


def _of_field(field: str, info: FieldInfo) -> list[Number]:
    names = (field,) if not info.shape else info.names or (None,) * info.size
    return [Number(field, place, name) for place, name in enumerate(names)]
