"""The codec: which raw signals a policy sees, in which layout, and what its outputs mean as robot commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from positronic import keys
from positronic.codecs.features import GRIP_THRESHOLD, Feature, ImageFeature, VectorFeature
from positronic.codecs.limits import fault
from positronic.codecs.parts import EePose, JointDeltas, JointPositions
from positronic.commands import ActionStep, ArmAction, Command
from positronic.conventions import Convention
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.table import Table

MAX_PIXEL = 255
MAX_SHOWN = 8  # numbers in an error's text


@dataclass(frozen=True)
class Timing:
    """``fps``: steps a second in an action chunk. ``horizon_sec``: how much of a chunk is played; None plays all."""

    fps: int
    horizon_sec: float | None = None

    def timestamps(self, count: int) -> list[float]:
        """Seconds from the chunk's start for its first ``count`` steps, those before the horizon."""
        stamps = [k / self.fps for k in range(count)]
        return stamps if self.horizon_sec is None else [t for t in stamps if t < self.horizon_sec]


@dataclass(frozen=True)
class Codec:
    """Observation x action x timing. It is frozen; the same object bakes episodes and encodes live observations.

    ``state`` and ``images`` make the observation, ``action`` the label. Of each arm in turn, ``action`` has a feature
    that moves the arm, then one that moves the gripper if there is one; ``switch_grip`` turns that into a switch.
    """

    name: str
    embodiment: Embodiment
    state: tuple[VectorFeature, ...]
    images: tuple[ImageFeature, ...]
    action: tuple[VectorFeature, ...]
    timing: Timing
    switch_grip: bool = False
    inference_only: str | None = None

    def __repr__(self) -> str:
        seen = ", ".join(feature.name for feature in (*self.state, *self.images))
        done = ", ".join(feature.name for feature in self.action)
        return f"Codec({self.name!r}: {seen} -> {done}, {self.timing.fps} Hz)"

    def __rich__(self) -> Table:
        """Each canonical feature with its signal, shape and convention."""
        from positronic.codecs.table import codec_table

        return codec_table(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    @property
    def features(self) -> dict[str, Feature]:
        """Every canonical feature by name: proprioception, images, action."""
        return {feature.name: feature for feature in (*self.state, *self.images, *self.action)}

    @property
    def conventions(self) -> dict[str, Convention]:
        return {name: feature.convention for name, feature in self.features.items()}

    @property
    def robot(self) -> dict[str, str]:
        """What the robot must be for this codec: of its embodiment what the codec uses, as ``Embodiment.contract``."""
        return self.embodiment.contract(self.cameras, **self.uses)

    @property
    def uses(self) -> dict[str, bool]:
        """Which quantities it uses, as ``Embodiment.contract`` takes them."""
        parts = [feature.part for feature in (*self.state, *self.action)]
        return {
            "with_joints": any(isinstance(part, JointPositions | JointDeltas) for part in parts),
            "with_poses": any(isinstance(part, EePose) for part in parts),
            "with_gripper": any(part.is_gripper for part in parts),
        }

    @property
    def cameras(self) -> list[str]:
        """Names of its cameras."""
        return [image.name.removeprefix(keys.IMAGE_PREFIX) for image in self.images]

    @property
    def vector_signals(self) -> tuple[str, ...]:
        """Raw vector and scalar signals that training needs."""
        return tuple(dict.fromkeys(feature.signal for feature in (*self.state, *self.action)))

    @property
    def signals(self) -> tuple[str, ...]:
        """Every raw signal that training needs."""
        return (*self.vector_signals, *(image.signal for image in self.images))

    @property
    def action_size(self) -> int:
        return sum(feature.shape[0] for feature in self.action)

    def encode_episode(self, samples: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float32]]:
        """Raw signals sampled at T times, (T, d) or (T,), to the ``state.*`` and ``action.*`` features, (T, D) float32.

        Frames are encoded one by one as they are decoded: see ``images``.
        """
        return {feature.name: feature.encode(samples[feature.signal]) for feature in (*self.state, *self.action)}

    def count_turned(self, samples: Mapping[str, NDArray[np.floating]]) -> dict[str, int]:
        """How many samples of each pose signal, (T, 7), are encoded by the other numbers of the same rotation: -q
        instead of q, or the other rotation vector near pi."""
        features = {feature.signal: feature for feature in (*self.state, *self.action) if feature.part.has_two_numbers}
        return {name: f.part.count_turned(f.rows(samples[name])) for name, f in features.items()}

    def encode(self, observation: Mapping[str, Any], plausible: bool = False) -> dict[str, NDArray[Any]]:
        """One live observation (raw keys; arrays, numbers or lists) to ``state.*`` (D,) and ``image.*`` (H, W, 3).

        Raises PositronicError when a key is missing or has the wrong shape, dtype or a value that is not finite; with
        ``plausible`` also at the first impossible state: other units and layouts (degrees, millimetres, percent, four
        numbers that are no quaternion).
        """
        vectors = {}
        for feature in self.state:
            values = _live_vector(observation, feature.signal)[None]
            if plausible and (found := fault(feature.part.raw_limits, feature.rows(values))):
                raise PositronicError(f"Observation '{feature.signal}': {found}.")
            vectors[feature.name] = feature.encode(values)[0]
        return vectors | {i.name: i.encode(_live_image(observation, i.signal)) for i in self.images}

    def decode(self, actions: ArrayLike) -> list[ActionStep]:
        """A chunk (H, A), ``action`` features side by side, to its steps before the horizon.

        Raises PositronicError when A is not ``action_size`` or a value is not finite.
        """
        (chunk,) = self.decode_each([actions])
        return chunk

    def decode_each(self, chunks: Sequence[ArrayLike]) -> list[list[ActionStep]]:
        """Chunks of one length, decoded together: for a server that costs less than one by one. Raises like
        ``decode``."""
        together = self.require_chunks(chunks)
        stamps = self.timing.timestamps(together.shape[1])
        near = together[:, : len(stamps)]  # before decoding: what lies behind the horizon costs nothing
        played = self._played(near.reshape(-1, self.action_size))
        names, actions = list(played), zip(*played.values(), strict=True)
        steps = [
            ActionStep(dict(zip(names, arms, strict=True)), stamp)
            for arms, stamp in zip(actions, stamps * len(together), strict=True)
        ]
        count = len(stamps)  # 0 for chunks without steps
        return [steps[number * count : (number + 1) * count] for number in range(len(together))]

    def require_chunks(self, chunks: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Chunks of one length, (n, H, A). Raises PositronicError when A is not ``action_size`` or a value is not
        finite."""
        together = np.asarray(chunks, np.float64)
        if together.ndim != 3 or together.shape[2] != self.action_size:
            found = f"shape {together.shape[1:]}"
            raise PositronicError(
                f"Codec '{self.name}': expected an action chunk (steps, {self.action_size}), found {found}."
            )
        if not np.all(np.isfinite(together)):
            raise PositronicError(f"Codec '{self.name}': the policy's actions are not finite numbers.")
        return together

    def _played(self, chunk: NDArray[np.float64]) -> dict[str, list[ArmAction]]:
        """Arm -> what it is told at each step."""
        commands: dict[str, Sequence[Command]] = {}
        grips: dict[str, list[float]] = {}
        for feature, rows in self.split_action(chunk):
            if feature.part.is_gripper:
                rows = rows > GRIP_THRESHOLD if self.switch_grip else rows
                grips[feature.part.arm.name] = np.clip(rows, 0.0, 1.0)[:, 0].tolist()
            else:
                commands[feature.part.arm.name] = feature.part.commands(rows)
        return {
            arm: [ArmAction(*told) for told in zip(commands[arm], grips.get(arm, [None] * len(chunk)), strict=True)]
            for arm in commands
        }

    def split_action(self, rows: NDArray[np.float64]) -> Iterator[tuple[VectorFeature, NDArray[np.float64]]]:
        """Actions (..., A) cut into their features."""
        start = 0
        for feature in self.action:
            stop = start + feature.shape[0]
            yield feature, rows[..., start:stop]
            start = stop


def _live(observation: Mapping[str, Any], key: str) -> Any:
    if key not in observation:
        hint = did_you_mean(key, observation)
        raise PositronicError(f"The observation lacks '{key}'. It holds {listing(map(str, observation))}.{hint}")
    return observation[key]


def _live_image(observation: Mapping[str, Any], key: str) -> Any:
    image = _live(observation, key)
    if isinstance(image, bytes | str):
        found = f"found {type(image).__name__}. A JPEG travels as {{b'__jpeg__': True, b'frames': [bytes], b'ndim': 3}}"
        raise PositronicError(f"{_pixels_expected(key)}, {found}.")
    if not isinstance(image, list):
        return image
    try:
        pixels = np.asarray(image)
    except ValueError:
        raise PositronicError(f"{_pixels_expected(key)}, found rows of different lengths.") from None
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > MAX_PIXEL:
        raise PositronicError(f"{_pixels_expected(key)}, found {_described(pixels)}.")
    return pixels.astype(np.uint8)


def _pixels_expected(key: str) -> str:
    return f"Observation '{key}': expected whole numbers 0..{MAX_PIXEL} (height, width, 3)"


def _described(pixels: NDArray[Any]) -> str:
    spread = f", {pixels.min():g} to {pixels.max():g}" if pixels.size and pixels.dtype.kind in "iuf" else ""
    return f"{pixels.dtype} of shape {pixels.shape}{spread}"


def _named(value: Any) -> str:
    return f"{value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _live_vector(observation: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    value = _live(observation, key)
    try:
        numbers = np.asarray(value)
    except ValueError:  # rows of different lengths
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "biuf":  # text that numpy would read as numbers is refused as well
        raise PositronicError(f"Observation '{key}': expected numbers, found {_named(value)}.")
    vector = numbers.astype(np.float64)
    if not np.all(np.isfinite(vector)):
        some = vector.ravel()[:MAX_SHOWN].tolist()  # the text of millions would stop every other thread for seconds
        raise PositronicError(f"Observation '{key}': expected finite numbers, found {some}.")
    return vector.reshape(1) if vector.ndim == 0 else vector
