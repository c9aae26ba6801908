"""What the names of fields, joints and cameras say, word by word."""

from __future__ import annotations

import re

from positronic.embodiments.embodiment import Arm

COMMANDED_WORDS = frozenset(
    ["action", "actions", "command", "commands", "commanded", "cmd", "target", "desired", "goal", "leader", "master"]
)
JOINT_WORDS = frozenset(["joint", "joints", "qpos", "q", "position", "positions"])
SPEED_WORDS = frozenset(["qvel", "velocity", "velocities", "vel", "dq", "speed", "speeds"])
STATE_WORDS = frozenset(["state", "states", "observation", "observations", "obs", "proprio"])
GRIPPER_WORDS = frozenset(["gripper", "grip", "finger", "fingers"])
POSE_WORDS = frozenset(["pose", "eef", "ee", "tcp", "tool", "cartesian", "effector"])
POSITION_WORDS = frozenset(["pos", "position", "translation", "xyz"])
ROTATION_WORDS = frozenset(["quat", "quaternion", "rot", "rotation", "orientation", "euler", "rotvec"])
TASK_WORDS = frozenset(["task", "instruction", "language", "prompt"])
NO_STATE_WORDS = frozenset(
    [
        *("effort", "efforts", "torque", "current", "force", "wrench", "reward", "done", "mirrored"),
        *("cos", "sin", "error", "std", "mean", "delta", "deltas", "rel", "relative"),
    ]
)
ROLE_WORDS = {
    "wrist": frozenset(["wrist", "hand", "eye", "gripper", "handcam"]),
    "exterior": frozenset(["exterior", "external", "agentview", "front", "top", "high", "scene", "overhead", "third"]),
}
QUANTITY_SUFFIXES = ("pos", "position", "q")  # of a joint's name


def words(name: str) -> list[str]:
    """``robot0_eef_pos`` -> robot, 0, eef, pos."""
    return re.findall(r"[a-z]+|\d+", name.lower())


def is_joint(name: str, joint: str) -> bool:
    """Whether a number's name is that of the joint: its words end with the joint's."""
    found, wanted = _joint_words(name), _joint_words(joint)
    return found[-len(wanted) :] == wanted


def belongs_to(arm: Arm, several: bool, *names: str) -> bool:
    """Whether the first of the names that mentions an arm mentions this one; of one arm, everything does."""
    return not several or any(arm.name.lower() in words(name) for name in names)


def mentions_other(arm: Arm, others: tuple[Arm, ...], name: str) -> bool:
    """Whether the name is that of another arm's."""
    found = words(name)
    return arm.name.lower() not in found and any(other.name.lower() in found for other in others if other.name)


def role_words(role: str) -> frozenset[str]:
    """Words in a camera's name that speak for the role ``left_wrist`` or ``exterior_2``."""
    return frozenset().union(*(ROLE_WORDS.get(word, frozenset([word])) for word in words(role) if not word.isdigit()))


def _joint_words(name: str) -> list[str]:
    found = words(name)
    while len(found) > 1 and found[-1] in QUANTITY_SUFFIXES:
        found = found[:-1]
    return found[:-1] if len(found) > 1 and found[-1] == "joint" else found
