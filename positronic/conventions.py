"""Conventions as values, and their comparison.

A wrong guess at a convention moves a robot wrongly without a message. So every vector and image carries its convention.
Two parts that exchange it compare theirs, and a difference is refused with both sides printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from positronic import keys
from positronic.errors import ConventionError

GRIP_UNIT = "0=open 1=closed"


@dataclass(frozen=True)
class Convention:
    """What a feature's numbers mean. A field that does not apply is empty.

    ``space``: cartesian, joint, gripper or image. ``unit``: "m", "rad", ... ``rotation``: layout of a pose's rotation.
    ``reference``: absolute or delta. ``frame``: what a pose is relative to. ``label``: where a training label comes
    from.
    """

    space: str
    unit: str
    rotation: str = ""
    reference: str = "absolute"
    frame: str = ""
    label: str = ""

    def __str__(self) -> str:
        return " ".join(value for value in asdict(self).values() if value)

    @classmethod
    def from_dict(cls, fields: Mapping[str, str]) -> Convention:
        return cls(**fields)


def pose(rotation: str, label: str = "") -> Convention:
    """An end-effector pose: xyz in metres and a rotation in the named layout, in the robot's base frame."""
    return Convention("cartesian", "m", rotation=rotation, frame="robot_base", label=label)


def joints(label: str = "") -> Convention:
    """Joint positions, rad."""
    return Convention("joint", "rad", label=label)


def joint_deltas(label: str = "") -> Convention:
    """DROID's joint velocities: -1..1 of the largest step."""
    return Convention("joint", "-1..1 of 0.2 rad/step", reference="delta", label=label)


def gripper(label: str = "") -> Convention:
    """Gripper opening: 0 = open, 1 = closed."""
    return Convention("gripper", GRIP_UNIT, label=label)


IMAGE = Convention("image", "uint8 RGB height,width,channel", reference="")

MEASURED = {keys.EE_POSE: pose("quat_wxyz"), keys.JOINT_POSITION: joints(), keys.GRIP: gripper()}
"""What raw signals mean, in recordings and to every codec."""


def differences(left: Mapping[str, object], right: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """Rows ``(name, left, right)`` for every name whose value differs or is on one side only (``absent``)."""
    names = [*left, *(name for name in right if name not in left)]
    rows = [(name, str(left.get(name, "absent")), str(right.get(name, "absent"))) for name in names]
    return [row for row in rows if row[1] != row[2]]


def require_equal(
    left_name: str, left: Mapping[str, object], right_name: str, right: Mapping[str, object], hint: str
) -> None:
    """Raise ConventionError with one line per difference, both sides printed, and ``hint`` as what to do next."""
    rows = differences(left, right)
    if rows:
        raise disagreement(f"{left_name} and {right_name} do not agree:", left_name, right_name, rows, hint)


def disagreement(
    heading: str, left_name: str, right_name: str, rows: Iterable[tuple[str, str, str]], hint: str
) -> ConventionError:
    """One line for each row ``(name, left, right)``, and ``hint`` as what to do next."""
    lines = [f"  {name}: {left_name} has {a}; {right_name} has {b}" for name, a, b in rows]
    return ConventionError("\n".join([heading, *lines, hint]))
