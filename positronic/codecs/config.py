"""The codec and modality groups."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from positronic.utils.fields import HEIGHT_WIDTH, above, between, names, one_of, some

FROM_CHECKPOINT = "from_checkpoint"  # the codec's name when a checkpoint says which it is


@dataclass
class CodecConfig:
    """What a policy sees and does, whoever trains it.

    name: of the codec's file
    description: one sentence
    state: parts of the proprioception, in order: ee_pose, grip, joint_position
    images: names of the cameras; null: all that the embodiment has
    rotation: of every pose: quat_wxyz, rot6d_rows or rotvec
    action: ee_pose, joint_position or joint_delta
    label: commanded (the command current at t) or measured (the state at t, the gripper as 0 or 1)
    switch_grip: decoded grips are 0 or 1, switched at 0.5, for grippers that are only ever open or closed
    inference_only: why this codec cannot be converted or trained with
    """

    name: str = MISSING
    description: str = ""
    state: list[str] = field(default_factory=list, metadata=names("ee_pose", "grip", "joint_position"))
    images: list[str] | None = None
    rotation: str = one_of("quat_wxyz", "rot6d_rows", "rotvec", default="quat_wxyz")
    action: str = one_of("ee_pose", "joint_position", "joint_delta", default="ee_pose")
    label: str = one_of("commanded", "measured", default="commanded")
    switch_grip: bool = False
    inference_only: str | None = None


@dataclass
class ModalityConfig:
    """What a vendor makes of a codec. A pair is valid if its file exists.

    image_size: height and width in pixels
    columns: dataset column -> canonical features, joined in this order; with several arms a feature without an arm's
        name is that of every arm
    cameras: role of a camera -> the dataset column of its images
    other_cameras: the column of a camera with another role, which stands for {role}; null: the vendor takes no other
    column_per_arm: with several arms, each state column comes once for each, as <arm>_<column>
    max_state_size: numbers that the vendor's model takes as its state; null is any number
    max_action_size: numbers that it predicts in a step
    task_key: where the language instruction goes
    action_fps: rate of the action steps in Hz
    action_horizon_sec: how much of a predicted chunk is played, in s; null plays it whole
    relative_actions: the model predicts actions relative to the current pose; data and servers hold absolute ones
    config_name: openpi's training config: pi05_positronic_lowmem (LoRA), pi05_positronic (all weights), or, to convert,
        any of an upstream checkout
    action_chunk: steps that gr00t's or openpi's model predicts at once; openpi's statistics are taken over them
    """

    image_size: list[int] = field(default_factory=lambda: [224, 224], metadata=HEIGHT_WIDTH)
    columns: dict[str, list[str]] = field(default_factory=dict)
    cameras: dict[str, str] = field(default_factory=dict)
    other_cameras: str | None = None
    column_per_arm: bool = False
    max_state_size: int | None = between(1, default=None)
    max_action_size: int | None = between(1, default=None)
    task_key: str = some("task", "a column's name")
    action_fps: int = between(1, default=15)
    action_horizon_sec: float | None = above(0, default=None)
    relative_actions: bool = False
    config_name: str | None = None
    action_chunk: int | None = between(1, default=None)

    @property
    def chunk_of_statistics(self) -> int | None:
        """``action_chunk`` if numbers in a dataset depend on it: statistics of an upstream openpi config do."""
        return None if self.config_name is None else self.action_chunk
