"""A robot as a frozen value, and its comparison: by name, never by position.

A recording, a codec, a checkpoint, a simulator and a real robot each state theirs. Why one value for all of them: the
same seven numbers are other joints on another robot, in another order, or in another unit, and nothing else would say
so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from positronic import conventions, keys
from positronic.embodiments.config import FROM_DATA, ArmConfig, EmbodimentConfig, GripperConfig
from positronic.errors import PositronicError, did_you_mean, listing

NAME = re.compile(r"[A-Za-z]\w*")  # of an arm, which becomes a part of keys and columns
CAMERA = re.compile(r"\w[\w. -]*")  # of a camera and of its role: they become names of files
UNIT = "rad"  # of every joint position in a recording, whatever the robot itself speaks
LIMITS = ("lower", "upper", "max_speed")  # a number a joint
SAME = ("unit", "base_frame", "ee_frame", "numbered")  # fields of an arm that its config has as they are
LONGEST = 60  # characters of names that a message shows in full


@dataclass(frozen=True)
class Gripper:
    """``open``, ``closed``: what the robot's own software says, in ``unit``. Recordings say 0 and 1."""

    open: float = 0.0
    closed: float = 1.0
    unit: str = "fraction"


@dataclass(frozen=True)
class Arm:
    """``name``: empty for the only arm of a robot. ``joints``: their names, in the order of every joint signal.

    ``lower``, ``upper``: rad, None where unknown or without end. ``max_speed``: rad/s. ``ee_frame``: None if its
    recordings hold no poses. ``numbered``: see ``ArmConfig``.
    """

    name: str
    joints: tuple[str, ...]
    lower: tuple[float | None, ...] | None = None
    upper: tuple[float | None, ...] | None = None
    max_speed: tuple[float, ...] | None = None
    unit: str = "rad"
    gripper: Gripper | None = Gripper()
    base_frame: str = "robot_base"
    ee_frame: str | None = "tool"
    numbered: bool = False

    def key(self, plain: str) -> str:
        """The arm's own raw, wire or feature key: ``robot_state.q`` -> ``robot_state.left.q``."""
        return keys.of_arm(plain, self.name)

    @property
    def said(self) -> str:
        """How messages call it."""
        return f"arm {self.name}" if self.name else "arm"

    def contract(self, with_joints: bool, with_poses: bool, with_gripper: bool) -> dict[str, str]:
        """What two arms must agree on to exchange these quantities."""
        rows = {}
        if with_joints:
            rows |= {"joints": f"{len(self.joints)}: {', '.join(self.joints)}", "unit of the joints": self.unit}
        if with_poses:
            rows["pose"] = f"of {self.ee_frame} in {self.base_frame}" if self.ee_frame else "none"
        if with_gripper:
            rows["gripper"] = conventions.GRIP_UNIT if self.gripper else "none"
        return {f"{self.said}: {what}": value for what, value in rows.items()}


@dataclass(frozen=True)
class Embodiment:
    """``cameras``: name -> role. ``control_fps``: commands a second at most, None if that is no limit."""

    name: str
    arms: tuple[Arm, ...]
    cameras: Mapping[str, str] = field(default_factory=dict)
    control_fps: float | None = None
    description: str = ""

    @cached_property
    def by_name(self) -> dict[str, Arm]:
        return {arm.name: arm for arm in self.arms}

    @property
    def has_several_arms(self) -> bool:
        return len(self.arms) > 1

    def contract(
        self,
        cameras: Iterable[str] | None = None,
        *,
        with_joints: bool = True,
        with_poses: bool = True,
        with_gripper: bool = True,
    ) -> dict[str, str]:
        """What two embodiments must agree on: each arm's joints in order, unit, frames and gripper, and each camera's
        role. ``cameras``: those that count; None: all."""
        rows: dict[str, str] = {}
        for arm in self.arms:
            rows |= arm.contract(with_joints, with_poses, with_gripper)
        named = self.cameras if cameras is None else [name for name in cameras if name in self.cameras]
        return rows | {f"camera {name}": self.cameras[name] for name in named}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` gives an equal embodiment."""
        return asdict(self.to_config())

    def to_config(self) -> EmbodimentConfig:
        """The config that ``build_embodiment`` makes it of."""
        arms = {arm.name or keys.ONLY_ARM: _arm_config(arm) for arm in self.arms}
        return EmbodimentConfig(self.name, self.description, arms, dict(self.cameras), self.control_fps)

    @classmethod
    def from_dict(cls, fields: Any) -> Embodiment:
        """The inverse of ``to_dict``. Raises PositronicError for anything else."""
        try:
            arms = {name: _read_arm(arm) for name, arm in fields["arms"].items()}
            return build_embodiment(EmbodimentConfig(**fields | {"arms": arms}))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise PositronicError(
                f"Not an embodiment that this version knows ({error}): {str(fields)[:LONGEST]}. Update Positronic, or "
                "look at who wrote it."
            ) from None


def build_embodiment(config: EmbodimentConfig) -> Embodiment:
    """The config as a frozen value. Raises PositronicError for one that describes no robot: no arm, no joint, two
    joints of one name, limits of another length, a camera without a role."""
    if not config.arms:
        raise _wrong(config, "it has no arm", "embodiment.arms={arm: {joints: [<name>, ...]}}")
    only = len(config.arms) == 1
    arms = tuple(_build_arm(config, name, "" if only else name, arm) for name, arm in config.arms.items())
    for camera, role in config.cameras.items():
        if not CAMERA.fullmatch(str(camera)) or not CAMERA.fullmatch(str(role)):
            expected = "embodiment.cameras={<name>: <role>}, both of letters, digits, '_', '-', '.'"
            raise _wrong(config, f"camera '{camera}' has the role '{role}'", expected)
    shared = [role for role in config.cameras.values() if list(config.cameras.values()).count(role) > 1]
    if shared:
        both = listing([name for name, role in config.cameras.items() if role == shared[0]])
        raise _wrong(config, f"cameras {both} have one role, {shared[0]}", f"a role of its own, e.g. {shared[0]}_2")
    return Embodiment(config.name, arms, dict(config.cameras), config.control_fps, config.description)


def typed_embodiment(config: EmbodimentConfig) -> Embodiment | None:
    """The embodiment that was chosen; None if the data say which it is."""
    return None if config.name == FROM_DATA else build_embodiment(config)


def differing_rows(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """``(row, mine, theirs)`` for everything that ``mine`` needs and ``theirs`` does not have or has differently, and
    for an arm of ``theirs`` that would be told nothing. Both are from ``Embodiment.contract``."""
    needed = dict.fromkeys([*mine, *(row for row in theirs if row.startswith("arm"))])
    rows = [(row, mine.get(row, "none"), theirs.get(row, "none")) for row in needed]
    return [row for row in rows if row[1] != row[2]]


def require_same_embodiment(
    mine_name: str, mine: Mapping[str, str], theirs_name: str, theirs: Mapping[str, str], hint: str
) -> None:
    """Raise ConventionError, both sides printed, when there are ``differing_rows``. ``hint``: what to do next."""
    rows = differing_rows(mine, theirs)
    if rows:
        heading = f"{mine_name} and {theirs_name} are not the same robot:"
        raise conventions.disagreement(heading, mine_name, theirs_name, rows, hint)


def require_needed(whose: str, needed: Mapping[str, str], embodiment: Embodiment, hint: str) -> None:
    """Raise ConventionError, both sides printed, when ``embodiment`` is not what ``whose`` codec needs.

    ``needed``: as ``Codec.robot``.
    """
    found = same_quantities(needed, embodiment)
    require_same_embodiment(whose, needed, f"embodiment={embodiment.name}", found, hint)


def same_quantities(needed: Mapping[str, str], embodiment: Embodiment) -> dict[str, str]:
    """The contract of ``embodiment`` about what ``needed`` speaks of. ``needed``: as ``Codec.robot``: what the codec
    does not use is not in it, and does not count."""
    quantities = {row.rpartition(": ")[2] for row in needed}
    return embodiment.contract(
        [row.removeprefix("camera ") for row in needed if row.startswith("camera ")],
        with_joints="joints" in quantities,
        with_poses="pose" in quantities,
        with_gripper="gripper" in quantities,
    )


def _build_arm(config: EmbodimentConfig, typed: str, name: str, arm: ArmConfig) -> Arm:
    _require_arm_config(config, typed, arm)
    gripper = None if arm.gripper is None else Gripper(arm.gripper.open, arm.gripper.closed, arm.gripper.unit)
    limits = {field_name: _floats(getattr(arm, field_name)) for field_name in LIMITS}
    return Arm(name, joints=tuple(arm.joints), gripper=gripper, **limits, **{each: getattr(arm, each) for each in SAME})


def _require_arm_config(config: EmbodimentConfig, typed: str, arm: ArmConfig) -> None:
    where = f"embodiment.arms.{typed}"
    if not NAME.fullmatch(typed):
        raise _wrong(config, f"an arm is called '{typed}'", "a name of letters, digits and '_', e.g. left")
    if not arm.joints:
        raise _wrong(config, f"arm '{typed}' has no joints", f"{where}.joints=[<name>, ...]")
    if isinstance(arm.joints, str) or not all(isinstance(joint, str) for joint in arm.joints):
        raise _wrong(config, f"{where}.joints is {str(arm.joints)[:LONGEST]}", "a list of names")
    twice = [joint for joint in arm.joints if arm.joints.count(joint) > 1]
    if twice:
        raise _wrong(config, f"arm '{typed}' has two joints '{twice[0]}'", "each joint's own name")
    if arm.unit != UNIT:
        raise _wrong(config, f"{where}.unit is {arm.unit}", f"{UNIT}, in which recordings hold joint positions")
    if arm.gripper is not None and arm.gripper.open == arm.gripper.closed:
        raise _wrong(config, f"{where}.gripper says {arm.gripper.open} open and closed", "two different numbers")
    _require_limits(config, where, arm)


def _require_limits(config: EmbodimentConfig, where: str, arm: ArmConfig) -> None:
    for field_name in LIMITS:
        values = getattr(arm, field_name)
        if values is not None and len(values) != len(arm.joints):
            found = f"{where}.{field_name} has {len(values)} numbers for {len(arm.joints)} joints"
            raise _wrong(config, found, "one number a joint, or null")
    for joint, low, high in zip(arm.joints, arm.lower or [], arm.upper or [], strict=False):
        if low is not None and high is not None and not float(low) < float(high):
            raise _wrong(config, f"{where}: joint '{joint}' goes from {low} to {high}", "lower below upper")
    for joint, speed in zip(arm.joints, arm.max_speed or [], strict=False):
        if not float(speed) > 0:
            raise _wrong(config, f"{where}.max_speed of joint '{joint}' is {speed}", "a number above 0, in rad/s")


def require_arm(embodiment: Embodiment, names: Collection[str]) -> None:
    """Raise PositronicError for the first of ``names`` that is no arm of the embodiment."""
    known = [arm.name for arm in embodiment.arms]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise PositronicError(f"Embodiment '{embodiment.name}' has no arm '{name}', only {listing(known)}.{hint}")


def _arm_config(arm: Arm) -> ArmConfig:
    gripper = None if arm.gripper is None else GripperConfig(arm.gripper.open, arm.gripper.closed, arm.gripper.unit)
    limits = {field_name: _list(getattr(arm, field_name)) for field_name in LIMITS}
    return ArmConfig(joints=list(arm.joints), gripper=gripper, **limits, **{each: getattr(arm, each) for each in SAME})


def _read_arm(fields: Mapping[str, Any]) -> ArmConfig:
    gripper = fields["gripper"]
    return ArmConfig(**{**fields, "gripper": None if gripper is None else GripperConfig(**gripper)})


def _floats(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(None if value is None else float(value) for value in values)


def _list(values: tuple[Any, ...] | None) -> list[Any] | None:
    return None if values is None else list(values)


def _wrong(config: EmbodimentConfig, found: str, expected: str) -> PositronicError:
    return PositronicError(f"embodiment={config.name}: {found}; expected {expected}.")
