"""Which field could be which raw signal, by names, shapes and the robot. What is proposed is shown with its reason.

Joints go by name. A field whose numbers have no names may still be all joints and grippers by its size: then their
order is what somebody must agree to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from positronic import keys
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.importing import words as w
from positronic.importing.source import COMMANDED, IMAGE, MEASURED, TEXT, FieldInfo

JOINTS_OF = {MEASURED: keys.JOINT_POSITION, COMMANDED: keys.COMMAND_JOINTS}
POSE_OF = {MEASURED: keys.EE_POSE, COMMANDED: keys.COMMAND_POSE}
GRIP_OF = {MEASURED: keys.GRIP, COMMANDED: keys.TARGET_GRIP}
POSITION_NAMES, QUAT_NAMES, TURN_NAMES = ("x", "y", "z"), ("qw", "qx", "qy", "qz"), ("rx", "ry", "rz")
BY_NAME, BY_WORD, BY_SIZE = 3, 2, 1  # how sure a draft is

Dims = tuple[str | int, ...] | None


@dataclass(frozen=True)
class Draft:
    """A raw signal that could come from these fields. ``is_ordered``: whether the recording says which number is which.
    ``rotation``: what the numbers' names say of it. ``sureness``: the surest draft of a signal is proposed."""

    key: str
    fields: tuple[str, ...]
    dims: Dims
    why: str
    sureness: int
    is_ordered: bool = True
    rotation: str | None = None


@dataclass(frozen=True)
class _Field:
    """A field of numbers, with what its name says."""

    name: str
    info: FieldInfo

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(w.words(self.name))

    @cached_property
    def role(self) -> str:
        return self.info.role or (COMMANDED if self.words & w.COMMANDED_WORDS else MEASURED)

    @property
    def names(self) -> tuple[str, ...]:
        return self.info.names or ()

    @property
    def is_speed(self) -> bool:
        return bool(self.words & w.SPEED_WORDS)

    @property
    def is_pose(self) -> bool:
        return bool(self.words & w.POSE_WORDS)


def drafts(fields: Mapping[str, FieldInfo], embodiment: Embodiment) -> list[Draft]:
    """Every draft of the robot's raw signals; there may be several of one."""
    numbers = [_Field(name, info) for name, info in fields.items() if info.kind not in (IMAGE, TEXT)]
    numbers = [field for field in numbers if not field.words & w.NO_STATE_WORDS]
    found = [draft for field in numbers for arm in embodiment.arms for draft in _of_arm(field, arm, embodiment)]
    found += [draft for field in numbers if not field.names for draft in _by_size(field, embodiment)]
    found += [draft for arm in embodiment.arms for draft in _pairs(numbers, arm, embodiment)]
    return found + list(_cameras({name: info for name, info in fields.items() if info.kind == IMAGE}, embodiment))


def _of_arm(field: _Field, arm: Arm, embodiment: Embodiment) -> Iterator[Draft]:
    """By the names of the field's numbers."""
    places = [place for place, name in enumerate(field.names) if _is_of(field, name, arm, embodiment)]
    joints = _joints(field, places, arm)
    if joints and not (field.is_speed and field.role == COMMANDED):
        key = keys.JOINT_VELOCITY if field.is_speed else JOINTS_OF[field.role]
        yield Draft(arm.key(key), (field.name,), joints, f"{_said(field)}; the names of the joints are there", BY_NAME)
    if arm.gripper is not None and not field.is_speed:
        yield from _grippers(field, places, arm, embodiment)
    if arm.ee_frame is not None and not field.is_speed:
        yield from _poses(field, places, arm, embodiment)


def _is_of(field: _Field, name: str, arm: Arm, embodiment: Embodiment) -> bool:
    several = embodiment.has_several_arms
    return w.belongs_to(arm, several, name, field.name) and not w.mentions_other(arm, embodiment.arms, name)


def _joints(field: _Field, places: list[int], arm: Arm) -> Dims:
    found = [[field.names[place] for place in places if w.is_joint(field.names[place], joint)] for joint in arm.joints]
    return tuple(names[0] for names in found) if all(len(names) == 1 for names in found) else None


def _grippers(field: _Field, places: list[int], arm: Arm, embodiment: Embodiment) -> Iterator[Draft]:
    named = [field.names[place] for place in places]
    found = [name for name in named if w.GRIPPER_WORDS & {*w.words(name)} and not w.NO_STATE_WORDS & {*w.words(name)}]
    key = arm.key(GRIP_OF[field.role])
    if len(found) == 1:
        why = f"{_said(field)}; '{found[0]}' is called like a gripper"
        yield Draft(key, (field.name,), (found[0],), why, BY_NAME)
    elif field.info.size == 1 and field.words & w.GRIPPER_WORDS and _is_of(field, "", arm, embodiment):
        yield Draft(key, (field.name,), None, f"{_said(field)} and called like a gripper", BY_WORD)


def _poses(field: _Field, places: list[int], arm: Arm, embodiment: Embodiment) -> Iterator[Draft]:
    key, named = arm.key(POSE_OF[field.role]), {field.names[place] for place in places}
    if named.issuperset(POSITION_NAMES + QUAT_NAMES):
        why, dims = f"{_said(field)}; position and quaternion are named", POSITION_NAMES + QUAT_NAMES
        yield Draft(key, (field.name,), dims, why, BY_NAME, rotation="quat_wxyz")
    elif named.issuperset(POSITION_NAMES + TURN_NAMES):
        why = f"{_said(field)}; position and rotation are named"
        yield Draft(key, (field.name,), POSITION_NAMES + TURN_NAMES, why, BY_NAME)
    elif not field.names and field.is_pose and field.info.size in (6, 7, 9, 12) and _is_of(field, "", arm, embodiment):
        yield Draft(key, (field.name,), None, f"{_said(field)}, and called like a pose", BY_WORD)


def _pairs(fields: list[_Field], arm: Arm, embodiment: Embodiment) -> Iterator[Draft]:
    """A position and a rotation in two fields whose names are otherwise the same."""
    if arm.ee_frame is None:
        return
    mine = [field for field in fields if field.is_pose and not field.is_speed and _is_of(field, "", arm, embodiment)]
    turns = {field.words - w.ROTATION_WORDS: field for field in mine if field.words & w.ROTATION_WORDS}
    for at in mine:
        turn = turns.get(at.words - w.POSITION_WORDS)
        if at.info.size != 3 or turn is None or not at.words & w.POSITION_WORDS:
            continue
        named = set(turn.names) >= set(QUAT_NAMES)
        dims = (0, 1, 2, *QUAT_NAMES) if named else None
        why = f"{_said(at)}; a position and a rotation of one name"
        rotation = "quat_wxyz" if named else None
        yield Draft(arm.key(POSE_OF[at.role]), (at.name, turn.name), dims, why, BY_NAME, rotation=rotation)


def _by_size(field: _Field, embodiment: Embodiment) -> Iterator[Draft]:
    """A field without names that has as many numbers as there are joints, or joints and grippers, of its arms."""
    told = [arm for arm in embodiment.arms if arm.name.lower() in field.words]
    arms = told if embodiment.has_several_arms and told else list(embodiment.arms)
    is_joints = bool(field.words & (w.JOINT_WORDS | w.SPEED_WORDS))
    if field.is_pose or field.words & w.GRIPPER_WORDS or (field.is_speed and field.role == COMMANDED):
        return
    if not is_joints and not field.words & (w.STATE_WORDS | w.COMMANDED_WORDS):
        return
    joints = sum(len(arm.joints) for arm in arms)
    grippers = sum(arm.gripper is not None for arm in arms)
    if field.info.size == joints + grippers and grippers:
        yield from _in_turn(field, arms, with_grippers=True)
    elif field.info.size == joints and is_joints:
        yield from _in_turn(field, arms, with_grippers=False)


def _in_turn(field: _Field, arms: list[Arm], with_grippers: bool) -> Iterator[Draft]:
    start = 0
    for arm in arms:
        stop = start + len(arm.joints)
        key = keys.JOINT_VELOCITY if field.is_speed else JOINTS_OF[field.role]
        why = f"{_said(field)}; {field.info.size} numbers without names, as many as the robot has"
        yield Draft(arm.key(key), (field.name,), tuple(range(start, stop)), why, BY_SIZE, is_ordered=False)
        start = stop
        if with_grippers and arm.gripper is not None:
            if not field.is_speed:
                yield Draft(arm.key(GRIP_OF[field.role]), (field.name,), (start,), why, BY_SIZE, is_ordered=False)
            start += 1


def _cameras(fields: Mapping[str, FieldInfo], embodiment: Embodiment) -> Iterator[Draft]:
    """By the camera's name, or by words that speak for its role alone."""
    for camera, role in embodiment.cameras.items():
        name = w.words(camera)
        exact = [field for field in fields if _ends_with(w.words(field), name)]
        if len(exact) == 1:
            yield Draft(f"{keys.IMAGE_PREFIX}{camera}", (exact[0],), None, "called like the camera", BY_NAME)
            continue
        spoken = [field for field in fields if _speaks_for(field, role, embodiment)]
        if len(spoken) == 1:
            why = f"its name speaks for a camera in the role {role}; look whether it is"
            yield Draft(f"{keys.IMAGE_PREFIX}{camera}", (spoken[0],), None, why, BY_WORD)


def _ends_with(found: list[str], name: list[str]) -> bool:
    """Behind the camera's name may stand what a picture is called."""
    rest = [word for word in found if word not in ("image", "images", "rgb", "color", "compressed", "raw")]
    return rest[-len(name) :] == name


def _speaks_for(field: str, role: str, embodiment: Embodiment) -> bool:
    found = set(w.words(field))
    sides = {"left", "right"} & set(w.words(role))
    others = {word for other in embodiment.cameras.values() if other != role for word in w.role_words(other)}
    own = w.role_words(role) - {"left", "right"}
    return bool(found & own) and sides <= found and not (found & (others - w.role_words(role)))


def _said(field: _Field) -> str:
    return "commanded" if field.role == COMMANDED else "measured"
