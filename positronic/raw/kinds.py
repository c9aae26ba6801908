"""What the published names of signals mean, so that no signal is offered, or accepted, in the place of another.

An alias renames and converts nothing: poses under the name of joints would be baked as radians without a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from positronic import keys
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.raw.faults import BadEpisode
from positronic.raw.naming import current_name
from positronic.raw.signals import VectorSignal
from positronic.raw.video import VideoSignal

POSE_SIZE = 7
UNIT_SLACK = 1e-3  # far above float32's rounding
RECORDED = "<recorded name>"


class Kind(NamedTuple):
    """``size``: numbers a sample; None where robots differ, and for pictures."""

    what: str
    size: int | None = None


JOINTS = Kind("joint positions in rad")
POSE = Kind("poses of the end effector, in m and unit quaternions", POSE_SIZE)
PICTURES = Kind("pictures")
GRIPPER = Kind("openings of a gripper, 0 to 1", 1)

KINDS: dict[str, Kind] = {  # by pattern; a robot with several arms names the arm in the middle
    r"robot_state\.(\w+\.)?q": JOINTS,
    r"robot_commands\.(\w+\.)?joints": JOINTS,
    r"robot_state\.(\w+\.)?dq": Kind("joint velocities in rad/s"),
    r"robot_commands\.(\w+\.)?joint_deltas": Kind("changes of joint positions in rad"),
    r"robot_state\.(\w+\.)?ee_pose": POSE,
    r"robot_commands\.(\w+\.)?pose": POSE,
    r"robot_commands\.(\w+\.)?pose_delta": Kind("changes of a pose"),
    r"robot_state\.(\w+\.)?(error|status)": Kind("states of the robot", 1),
    r"robot_commands\.(\w+\.)?reset": Kind("marks of a reset", 1),
    r"controller_positions\..+": Kind("poses of a hand controller, in a frame of its own", POSE_SIZE),
    r"(target_)?grip(\.\w+)?": GRIPPER,
    re.escape(keys.IMAGE_PREFIX) + ".+": PICTURES,
}
PUBLISHED = frozenset(
    [
        *(keys.JOINT_POSITION, keys.JOINT_VELOCITY, keys.EE_POSE, keys.GRIP, keys.TARGET_GRIP, keys.COMMAND_POSE),
        *(keys.COMMAND_JOINTS, keys.COMMAND_JOINT_DELTAS, keys.COMMAND_RESET, keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR),
    ]
)
"""Names with one meaning. A signal recorded under one of them never stands in for another one that is missing."""


def kind_of(name: str) -> Kind | None:
    """What a signal of this name holds; None for a name that is not a published one."""
    name = current_name(name)
    return next((kind for pattern, kind in KINDS.items() if re.fullmatch(pattern, name)), None)


def codec_for(signals: Iterable[str]) -> dict[str, str]:
    """What to type so that recordings of these signals can be converted; nothing where a vendor's default fits, which
    is for commanded poses."""
    plain = {keys.split_arm(name)[0] for name in signals}
    commanded = keys.TARGET_GRIP in plain or keys.GRIP not in plain
    if commanded and {keys.COMMAND_POSE, keys.EE_POSE} <= plain:
        return {}
    if commanded and {keys.COMMAND_JOINTS, keys.JOINT_POSITION} <= plain:
        return {"codec": "joints_cmd"}
    return {"codec": "ee_traj" if keys.EE_POSE in plain else "joints_traj"}


def require_same_kinds(aliases: Mapping[str, str]) -> None:
    """Raise PositronicError for an alias from a signal that holds something else by its name."""
    for name, source in aliases.items():
        wanted, found = kind_of(name), kind_of(source)
        if wanted and found and wanted != found:
            raise PositronicError(
                f"dataset.aliases={{{name}: {source}}}: '{name}' holds {wanted.what}, '{source}' holds {found.what}. "
                "An alias renames and converts nothing: take it out, and choose a codec=... for what was recorded."
            )


def remedy(name: str, signals: Mapping[str, VectorSignal | VideoSignal], size: int | None = None) -> str:
    """What to type about the missing signal ``name``, of ``size`` numbers a sample. It names only signals that could be
    meant."""
    present, kind = f"Present: {listing(signals)}", kind_of(name)
    if kind is None:
        near = did_you_mean(name, signals)
        return f"{near} {present}. If it goes by another name: {_alias(name, RECORDED)}."
    fitting = [found for found in signals if _could_be(name, found, signals[found], size)]
    if not fitting:
        return f" {present}; judging by name and size, none of these can stand for it ({kind.what})."
    named = f"'{fitting[0]}'" if len(fitting) == 1 else f"one of {listing(fitting)}"
    source = fitting[0] if len(fitting) == 1 else RECORDED
    return f" {present}. If it is {named}: {_alias(name, source)}."


def _alias(name: str, source: str) -> str:
    return f"'dataset.aliases={{{name}: {source}}}'"


def _could_be(name: str, found: str, signal: VectorSignal | VideoSignal, size: int | None) -> bool:
    kind, other = kind_of(name), kind_of(found)
    # A published name holds what it says; and another kind of number is never what is missing.
    if keys.split_arm(current_name(found))[0] in PUBLISHED or other not in (None, kind):
        return False
    if (kind is PICTURES) != isinstance(signal, VideoSignal):
        return False
    if isinstance(signal, VideoSignal):
        return True
    size, there = size or kind.size, size_of(signal)
    return there is None or (there > 0 if size is None else there == size)


def looks_like_poses(values: np.ndarray) -> bool:
    """Whether the last four of seven numbers are always a unit quaternion, which those of moving joints never are."""
    if values.ndim != 2 or values.shape[1] != POSE_SIZE or values.dtype.kind != "f" or len(values) < 2:
        return False
    rows = values.astype(np.float64)
    moves = bool((rows != rows[0]).any())
    with np.errstate(over="ignore", invalid="ignore"):
        return moves and bool((np.abs(np.linalg.norm(rows[:, 3:], axis=1) - 1) < UNIT_SLACK).all())


def size_of(signal: VectorSignal) -> int | None:
    """Numbers a sample; None when the file cannot be read, and 0 when it holds text."""
    try:
        values = signal.values
    except BadEpisode:
        return None
    return 0 if values.dtype.kind == "O" else int(values.shape[1]) if values.ndim == 2 else 1
