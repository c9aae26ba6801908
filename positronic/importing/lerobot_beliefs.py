"""What is believed of a LeRobot dataset's columns. The format has names and no conventions, so somebody must agree.

Robots of LeRobot's own (SO-100, SO-101, Koch) are read through its `MotorsBus`: joints in degrees, or from -100 to 100
over the range of each in the calibration (`use_degrees`), grippers from 0 to 100 over theirs. Which of them a recording
holds, nothing in it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from positronic import keys
from positronic.importing.mapping import RGB
from positronic.importing.source import COMMANDED, IMAGE, MEASURED, Belief, FieldInfo
from positronic.importing.words import GRIPPER_WORDS, words

ACTION = "action"
SUFFIX = ".pos"  # LeRobot's own robots call a motor's position so
BEFORE = "main_"  # and called it so before their calibration was changed in 2025
SO_JOINTS = frozenset(["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"])
CLIPPED = 100.0  # where a calibrated range ends
SLACK = 0.5
IN_RGB = Belief(RGB, "LeRobot keeps RGB", known=True)
GRIPPER = {
    "open": Belief(100.0, "LeRobot's grippers go from 0 to 100, which is usually open; look at a picture"),
    "closed": Belief(0.0, "LeRobot's grippers go from 0, usually closed, to 100; look at a picture"),
}
BY_DEGREES = "LeRobot records this arm in degrees unless use_degrees was false; the numbers fit both"
BY_RANGE = "an end is at 100, as of joints that LeRobot records from -100 to 100"
BY_AGE = "LeRobot recorded degrees then; its zero position was another one than today's"


def with_beliefs(fields: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
    """The fields with what their names say of them."""
    return {name: _said(name, info) for name, info in fields.items()}


def _said(name: str, info: FieldInfo) -> FieldInfo:
    if info.kind == IMAGE:
        return replace(info, believed={"channels": IN_RGB})
    role = COMMANDED if _is(name, ACTION) else MEASURED if _is(name, keys.LEROBOT_STATE) else ""
    return replace(info, role=role, believed=_of_motors(info))


def _is(name: str, base: str) -> bool:
    return name == base or name.startswith(f"{base}.")


def _of_motors(info: FieldInfo) -> dict[str, Belief]:
    names = info.names or ()
    plain = {_plain(name) for name in names}
    if not any({each.removeprefix(side) for each in plain} >= SO_JOINTS for side in ("", "left_", "right_")):
        return {}
    if any(BEFORE in name for name in names):
        return {"unit": Belief("degrees", BY_AGE)}
    if not all(name.endswith(SUFFIX) for name in names):
        return {}
    joints = [at for at, name in enumerate(names) if not GRIPPER_WORDS & {*words(name)}]
    return {"unit": _unit(info, joints)} | GRIPPER


def _unit(info: FieldInfo, joints: list[int]) -> Belief:
    ends = [abs(side[at]) for side in (info.low, info.high) for at in joints if info.low]
    if any(end > CLIPPED + SLACK for end in ends):
        return Belief("degrees", f"they go to {max(ends):.3g}, beyond the 100 at which LeRobot's other unit ends")
    if any(end == CLIPPED for end in ends):
        return Belief("m100_100", BY_RANGE)
    return Belief("degrees", BY_DEGREES)


def _plain(name: str) -> str:
    return name.removesuffix(SUFFIX).replace(BEFORE, "")
