"""Canonical features: the flat, named pieces that a codec makes of raw signals.

``state.<part>`` and ``action.<part>`` are float32 vectors, ``image.<camera>`` uint8 frames. One function encodes a
whole episode (T, ...) and a live observation (a batch of one), by operations that are element-wise along T, so both are
equal bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, geometry, keys
from positronic.codecs.images import letterbox
from positronic.conventions import Convention
from positronic.errors import PositronicError

Array = NDArray[np.float32]

NUM_JOINTS = 7  # Franka, and every public Positronic recording
GRIP_THRESHOLD = 0.5  # strictly above is closed
MAX_JOINT_DELTA_RAD = 0.2  # DROID's actions are joint velocities in -1..1; 1 moves a joint this far in one 1/15 s step

MEASURED = {"ee_pose": keys.EE_POSE, "joint_position": keys.JOINT_POSITION, "grip": keys.GRIP}
COMMANDED = {
    "ee_pose": keys.COMMAND_POSE,
    "joint_position": keys.COMMAND_JOINTS,
    "joint_delta": keys.COMMAND_JOINT_DELTAS,
    "grip": keys.TARGET_GRIP,
}
RAW_SIZE = {"ee_pose": 7, "joint_position": NUM_JOINTS, "joint_delta": NUM_JOINTS, "grip": 1}


@dataclass(frozen=True)
class VectorFeature:
    """A part of the proprioception or of the action, taken from one raw signal."""

    name: str
    part: str
    signal: str
    convention: Convention
    binarise: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        if self.part == "ee_pose":
            return (3 + geometry.ROTATION_DIMS[self.convention.rotation],)
        return (RAW_SIZE[self.part],)

    @property
    def dtype(self) -> str:
        return "float32"

    def encode(self, values: NDArray[np.floating]) -> Array:
        """Raw values (T, raw size), or (T,) for a scalar -> (T, D) float32. Raises PositronicError on another shape,
        and on a quaternion of length 0."""
        size = RAW_SIZE[self.part]
        rows = np.asarray(values, np.float64)
        rows = rows[:, None] if rows.ndim == 1 and size == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != size:
            raise PositronicError(
                f"Signal '{self.signal}': expected {size} numbers a sample, found shape {rows.shape[1:]}."
            )
        if self.part == "ee_pose":
            rows = self._turned(rows)
        if self.binarise:
            rows = (rows > GRIP_THRESHOLD).astype(np.float64)
        return rows.astype(np.float32)

    def _turned(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            return geometry.pose_to(self.convention.rotation, rows)
        except PositronicError as error:  # a quaternion without a direction
            raise PositronicError(f"Signal '{self.signal}': {error}") from None


@dataclass(frozen=True)
class ImageFeature:
    """One camera, letterboxed to ``height`` x ``width``."""

    name: str
    signal: str
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, 3)

    @property
    def dtype(self) -> str:
        return "uint8"

    @property
    def convention(self) -> Convention:
        return conventions.IMAGE

    def encode(self, image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One uint8 RGB frame (H, W, 3) of any size -> (height, width, 3). Raises PositronicError on anything else."""
        image_hwc = np.asarray(image_hwc)
        if image_hwc.dtype != np.uint8 or image_hwc.ndim != 3 or image_hwc.shape[2] != 3:
            found = f"{image_hwc.dtype} of shape {image_hwc.shape}"
            raise PositronicError(f"Image '{self.signal}': expected uint8 RGB (height, width, 3), found {found}.")
        return letterbox(image_hwc, self.height, self.width)


Feature = VectorFeature | ImageFeature


def state_feature(part: str, rotation: str) -> VectorFeature:
    """The measured ``part`` as a piece of the proprioception."""
    return VectorFeature(f"state.{part}", part, MEASURED[part], _convention(part, rotation, ""))


def action_feature(part: str, rotation: str, label: str) -> VectorFeature:
    """``part`` of the action; ``label`` is ``commanded`` or ``measured`` (then a grip label is binarised)."""
    measured = label == "measured"
    binarise = measured and part == "grip"
    described = f"{label}, binarised" if binarise else label
    signal = (MEASURED if measured else COMMANDED)[part]
    return VectorFeature(f"action.{part}", part, signal, _convention(part, rotation, described), binarise)


def image_feature(camera: str, height: int, width: int) -> ImageFeature:
    """Camera ``wrist`` is the raw signal ``image.wrist``, and keeps that name."""
    name = keys.IMAGE_PREFIX + camera
    return ImageFeature(name, name, height, width)


def _convention(part: str, rotation: str, label: str) -> Convention:
    if part == "ee_pose":
        return conventions.pose(rotation, label)
    if part == "grip":
        return conventions.gripper(label)
    if part == "joint_delta":
        return conventions.joint_deltas(label)
    return conventions.joints(label)
