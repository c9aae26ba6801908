"""Canonical features: the flat, named pieces that a codec makes of raw signals.

``state.<part>`` and ``action.<part>`` are float32 vectors, ``image.<camera>`` uint8 frames; with several arms it is
``state.<arm>.<part>``. One function encodes a whole episode (T, ...) and a live observation (a batch of one), by
operations that are element-wise along T. So both are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from positronic import conventions, keys
from positronic.codecs.images import letterbox
from positronic.codecs.parts import Part
from positronic.conventions import Convention
from positronic.errors import PositronicError
from positronic.geometry import NoDirectionError

Array = NDArray[np.float32]
References = Mapping[str, Sequence[float]]
"""Raw pose signal -> the rotation that decides between two ways to write the same rotation."""

GRIP_THRESHOLD = 0.5  # strictly above is closed


@dataclass(frozen=True)
class VectorFeature:
    """A part of the proprioception or of the action, taken from one raw signal."""

    name: str
    part: Part
    signal: str
    convention: Convention
    binarise: bool = False

    @property
    def measured(self) -> str | None:
        """The raw signal of its arm that says where it is."""
        return self.part.measured and self.part.arm.key(self.part.measured)

    @property
    def commanded(self) -> str | None:
        """The raw signal of its arm that says where it is to be."""
        return self.part.commanded and self.part.arm.key(self.part.commanded)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.part.size,)

    @property
    def dtype(self) -> str:
        return "float32"

    def encode(self, values: NDArray[np.floating]) -> Array:
        """Raw values (T, raw size), or (T,) for a scalar -> (T, D) float32. Raises PositronicError on another shape,
        and on a quaternion of length 0."""
        try:
            rows = self.part.encode(self.rows(values))
        except NoDirectionError as error:
            raise PositronicError(f"Signal '{self.signal}': {error}") from None
        if self.binarise:
            rows = (rows > GRIP_THRESHOLD).astype(np.float64)
        return rows.astype(np.float32)

    def rows(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Raw values as (T, raw size). Raises PositronicError on another shape."""
        size = self.part.raw_size
        rows = np.asarray(values, np.float64)
        rows = rows[:, None] if rows.ndim == 1 and size == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != size:
            raise PositronicError(
                f"Signal '{self.signal}': expected {size} numbers a sample, found shape {rows.shape[1:]}."
            )
        return rows


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
        """One uint8 RGB frame (H, W, 3) of any size above 0 -> (height, width, 3).

        Raises PositronicError, with the signal, on anything else.
        """
        image_hwc = np.asarray(image_hwc)
        if image_hwc.dtype != np.uint8 or image_hwc.ndim != 3 or image_hwc.shape[2] != 3 or not image_hwc.size:
            found = f"{image_hwc.dtype} of shape {image_hwc.shape}"
            raise PositronicError(f"Image '{self.signal}': expected uint8 RGB (height, width, 3), found {found}.")
        try:
            return letterbox(image_hwc, self.height, self.width)
        except PositronicError as error:
            raise PositronicError(f"Image '{self.signal}': {error}") from None


Feature = VectorFeature | ImageFeature


def state_feature(part: Part, references: References) -> VectorFeature:
    """The measured ``part`` as a piece of the proprioception."""
    return _feature("state", part, part.measured, "", references)


def action_feature(part: Part, label: str, references: References) -> VectorFeature:
    """``part`` of the action; ``label`` is ``commanded`` or ``measured`` (then a grip label is binarised)."""
    measured = label == "measured"
    binarise = measured and part.is_gripper
    described = f"{label}, binarised" if binarise else label
    feature = _feature("action", part, part.measured if measured else part.commanded, described, references)
    return replace(feature, binarise=binarise)


def _feature(group: str, part: Part, plain_signal: str | None, label: str, references: References) -> VectorFeature:
    if plain_signal is None:
        raise PositronicError(f"There is no raw signal for '{part.name}' as {group} with label '{label}'.")
    signal = part.arm.key(plain_signal)
    turned = part.toward(references.get(signal))
    return VectorFeature(part.arm.key(f"{group}.{part.name}"), turned, signal, part.convention(label))


def image_feature(camera: str, height: int, width: int) -> ImageFeature:
    """Camera ``wrist`` is the raw signal ``image.wrist``, and keeps that name."""
    name = keys.IMAGE_PREFIX + camera
    return ImageFeature(name, name, height, width)
