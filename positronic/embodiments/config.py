"""The embodiment group: what a robot is, whoever records it, simulates it or runs a policy on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from positronic.utils.fields import above, one_of, some

FROM_DATA = "from_data"  # the embodiment's name when a recording, dataset or checkpoint says which it is


@dataclass
class GripperConfig:
    """A gripper. Recordings, codecs and policies say 0 = open, 1 = closed; the robot's own software may not.

    open: what the robot's own software says of an open gripper
    closed: what it says of a closed one
    unit: of those two numbers
    """

    open: float = 0.0
    closed: float = 1.0
    unit: str = some("fraction", "a unit's name")


@dataclass
class ArmConfig:
    """An arm.

    joints: names of the joints, in the order in which recordings hold them
    lower: where each joint's range begins, in rad; null: unknown, or it turns without end
    upper: where it ends
    max_speed: of each joint, in rad/s
    unit: of joint positions
    gripper: at the arm's end; null is none
    base_frame: what poses are relative to
    ee_frame: what poses are poses of; null: this robot's recordings hold no poses
    numbered: dimensions are named by number (joint_position.0), as in datasets that are older than this group
    """

    joints: list[str] = field(default_factory=list)
    lower: list[float | None] | None = None
    upper: list[float | None] | None = None
    max_speed: list[float] | None = None
    unit: str = one_of("rad", default="rad")
    gripper: GripperConfig | None = field(default_factory=GripperConfig)
    base_frame: str = some("robot_base", "a frame's name")
    ee_frame: str | None = some("tool", "a frame's name, or null when recordings hold no poses")
    numbered: bool = False


@dataclass
class EmbodimentConfig:
    """What a robot is.

    name: of the embodiment's file
    description: one sentence
    arms: by name; the raw keys of an only arm carry no name (robot_state.q), those of several do (robot_state.left.q)
    cameras: name (of the raw key image.<name>) -> role: exterior, wrist, left_wrist, ...; roles are matched with a
        vendor's camera slots
    control_fps: commands a second that the robot takes at most, in Hz; null: more than any policy gives
    """

    name: str = MISSING
    description: str = ""
    arms: dict[str, ArmConfig] = field(default_factory=dict)
    cameras: dict[str, str] = field(default_factory=dict)
    control_fps: float | None = above(0, default=None)
