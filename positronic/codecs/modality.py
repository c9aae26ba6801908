"""What a vendor makes of a codec's canonical features: column names, joined vectors, the task key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.codecs.codec import Codec
from positronic.codecs.config import ModalityConfig
from positronic.codecs.features import Feature, ImageFeature, VectorFeature
from positronic.codecs.parts import GRIPPER, split_feature
from positronic.errors import PositronicError, did_you_mean, listing


@dataclass(frozen=True)
class Column:
    """A dataset column: one image, or vectors side by side."""

    name: str
    sources: tuple[Feature, ...]

    @property
    def is_image(self) -> bool:
        return isinstance(self.sources[0], ImageFeature)

    @property
    def is_action(self) -> bool:
        return self.sources[0].name.startswith("action.")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sources[0].shape if self.is_image else (sum(source.shape[0] for source in self.sources),)

    @property
    def dtype(self) -> str:
        return self.sources[0].dtype

    def join(self, canonical: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Canonical arrays (..., D_i) to this column's (..., sum of D_i). An image passes unchanged."""
        if len(self.sources) == 1:
            return canonical[self.sources[0].name]
        return np.concatenate([canonical[source.name] for source in self.sources], axis=-1)


@dataclass(frozen=True)
class Modality:
    """Columns in the vendor's order, and the key under which the language instruction travels.

    ``empty_slots``: columns of cameras that the vendor's model knows and this robot does not have; they are masked.
    """

    columns: tuple[Column, ...]
    task_key: str
    empty_slots: tuple[str, ...] = ()

    @property
    def image_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.is_image)

    @property
    def vector_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if not column.is_image)

    @property
    def observation_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if not column.is_action)

    @property
    def state_size(self) -> int:
        """Numbers of all state columns together."""
        return sum(column.shape[0] for column in self.vector_columns if not column.is_action)

    @property
    def action_column(self) -> Column:
        return next(column for column in self.columns if column.is_action)

    def observation(self, canonical: Mapping[str, NDArray[Any]], task: str) -> dict[str, Any]:
        """A live observation's canonical features as the model's columns, the task under ``task_key``."""
        return {column.name: column.join(canonical) for column in self.observation_columns} | {self.task_key: task}


def build_modality(codec: Codec, config: ModalityConfig) -> Modality:
    """Resolve the columns for the codec's robot.

    Raises PositronicError for an unknown source, one left out, actions out of order, and for more cameras or numbers
    than the vendor takes.
    """
    named = {name: _sources(codec, name, sources) for name, sources in config.columns.items()}
    vectors = [column for name, sources in named.items() for column in _columns(codec, config, name, sources)]
    built = [*_by_role(codec, config, named), *vectors]
    _require_complete(codec, built)
    taken = {column.name for column in built if column.is_image}
    empty = tuple(dict.fromkeys(column for column in config.cameras.values() if column not in taken))
    modality = Modality(tuple(built), config.task_key, empty)
    _require_size(codec, "state", modality.state_size, config.max_state_size)
    _require_size(codec, "action", codec.action_size, config.max_action_size)
    return modality


def _require_complete(codec: Codec, built: Sequence[Column]) -> None:
    """Each feature has a column of one kind, and the action's are in the codec's order."""
    names = [column.name for column in built]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise PositronicError(f"Two columns of the modality are called '{twice[0]}'. Rename one: modality.columns.")
    used = [source.name for column in built for source in column.sources]
    unused = [name for name in codec.features if name not in used]
    if unused:
        raise PositronicError(f"No column of the modality takes {listing(unused)} of codec '{codec.name}'.")
    mixed = [
        c.name
        for c in built
        if len({s.name.split(".")[0] for s in c.sources}) > 1 or (c.is_image and len(c.sources) > 1)
    ]
    if mixed:
        raise PositronicError(f"Column '{mixed[0]}' mixes kinds: join states, or actions, or take one image.")
    actions = [column.sources for column in built if column.is_action]
    if actions != [codec.action]:
        order = ", ".join(feature.name for feature in codec.action)
        raise PositronicError(f"Codec '{codec.name}' needs one action column with sources in this order: {order}.")


def _by_role(codec: Codec, config: ModalityConfig, named: Mapping[str, list[Feature]]) -> list[Column]:
    """A column for each camera that has none by name, by the camera's role."""
    if not config.cameras and config.other_cameras is None:
        return []
    images = [(name, source) for name, sources in named.items() for source in sources]
    columns = {name: source for name, source in images if isinstance(source, ImageFeature)}
    _require_slots(config, columns)
    placed, by_name = list(columns.values()), set(columns)
    for image in codec.images:
        if image in placed:
            continue
        name = _slot(codec, config, image)
        if name is None:
            raise _no_slot(codec, config, image)
        if name in columns:
            raise _same_slot(codec, config, name, [columns[name], image])
        columns[name] = image
    return [Column(name, (image,)) for name, image in columns.items() if name not in by_name]


def _slot(codec: Codec, config: ModalityConfig, image: ImageFeature) -> str | None:
    """The column of the camera's role; None if the vendor's model takes no camera in it."""
    role = codec.embodiment.cameras[_camera(image)]
    if role in config.cameras:
        return config.cameras[role]
    return None if config.other_cameras is None else config.other_cameras.replace("{role}", role)


def _camera(image: ImageFeature) -> str:
    return image.name.removeprefix(keys.IMAGE_PREFIX)


def _require_slots(config: ModalityConfig, named: Mapping[str, ImageFeature]) -> None:
    """A camera that was given a column by name must be where the vendor's model looks."""
    for column, image in named.items():
        if config.other_cameras is None and column not in config.cameras.values():
            hint = did_you_mean(column, config.cameras.values())
            raise PositronicError(
                f"modality.columns={{{column}: [{image.name}]}}: this vendor's model takes {_slots(config)}.{hint}"
            )


def _slots(config: ModalityConfig) -> str:
    """How many cameras the vendor's model takes, the columns that it reads, and in which roles."""
    columns = _distinct(config)
    roles = [" or ".join(role for role in config.cameras if config.cameras[role] == column) for column in columns]
    listed = ", ".join(f"{column} ({role})" for column, role in zip(columns, roles, strict=True))
    return f"{len(columns)} cameras, {listed}"


def _distinct(config: ModalityConfig) -> list[str]:
    return list(dict.fromkeys(config.cameras.values()))


def _no_slot(codec: Codec, config: ModalityConfig, image: ImageFeature) -> PositronicError:
    camera = _camera(image)
    return PositronicError(
        f"Camera '{camera}' of embodiment={codec.embodiment.name} is in the role '{codec.embodiment.cameras[camera]}', "
        f"and this vendor's model takes {_slots(config)}. {_ways_out(codec, config, image)}"
    )


def _same_slot(codec: Codec, config: ModalityConfig, column: str, both: Sequence[ImageFeature]) -> PositronicError:
    names = listing([_camera(image) for image in both])
    return PositronicError(
        f"Cameras {names} of embodiment={codec.embodiment.name} would both go to column '{column}'. "
        f"{_ways_out(codec, config, both[-1])}"
    )


def _ways_out(codec: Codec, config: ModalityConfig, image: ImageFeature) -> str:
    """What to type about a camera without a column: leave it out, or give it one that is free."""
    others = ",".join(camera for camera in codec.cameras if camera != _camera(image))
    left_out = f"Leave out {_camera(image)}: codec.images=[{others}]."
    by_name = {column for column, sources in config.columns.items() for name in sources if name in codec.features}
    taken = by_name | {_slot(codec, config, other) for other in codec.images if other != image}
    names = [] if config.other_cameras is None else [_camera(image), f"{_camera(image)}_2"]
    new = [(config.other_cameras or "").replace("{role}", name) for name in names]
    free = [column for column in (*_distinct(config), *new) if column not in taken]
    if not free:
        return left_out
    return f"{left_out} Or give it a column that is free: 'modality.columns={{{free[0]}: [{image.name}]}}'."


def _columns(codec: Codec, config: ModalityConfig, name: str, sources: list[Feature]) -> list[Column]:
    """One column, or one for each arm; none for a gripper that the robot does not have."""
    if not sources:
        return []
    vectors = [source for source in sources if isinstance(source, VectorFeature)]
    splits = config.column_per_arm and codec.embodiment.has_several_arms and len(vectors) == len(sources)
    if not splits or vectors[0].name.startswith("action."):
        return [Column(name, tuple(sources))]
    arms = dict.fromkeys(source.part.arm.name for source in vectors)
    return [Column(f"{arm}_{name}", tuple(s for s in vectors if s.part.arm.name == arm)) for arm in arms]


def _sources(codec: Codec, column: str, names: Sequence[str]) -> list[Feature]:
    """The features that the names stand for. ``state.grip`` is that of every arm.

    Arm comes after arm. Quantities that the action has too come first, so that a state begins as its action does:
    openpi's models predict actions relative to the numbers at the same place of the state.
    """
    found = [(name, _named(codec, column, name)) for name in names]
    if not codec.embodiment.has_several_arms or any(name in codec.features for name in names):
        return [feature for _, features in found for feature in features]
    of_action = {feature.part.name for feature in codec.action}
    first = [pair for pair in found if split_feature(pair[0])[2] in of_action]
    groups = (first, [pair for pair in found if pair not in first])
    return [
        feature
        for group in groups
        for arm in codec.embodiment.arms
        for _, features in group
        for feature in features
        if isinstance(feature, VectorFeature) and feature.part.arm == arm
    ]


def _named(codec: Codec, column: str, name: str) -> list[Feature]:
    if name in codec.features:
        return [codec.features[name]]
    group, arm, part = split_feature(name)
    every = [] if arm else [a.key(name) for a in codec.embodiment.arms]
    found = [codec.features[each] for each in every if each in codec.features]
    has_no_gripper = part == GRIPPER and not any(each.gripper for each in codec.embodiment.arms)
    if found or (has_no_gripper and group in ("state", "action")):
        return found
    hint = did_you_mean(name, codec.features)
    raise PositronicError(
        f"Column '{column}': codec '{codec.name}' has no feature '{name}', only {listing(codec.features)}.{hint}"
    )


def _require_size(codec: Codec, what: str, size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise PositronicError(
            f"Codec '{codec.name}' with embodiment={codec.embodiment.name} has {size} numbers in its {what}, and this "
            f"vendor's model takes {most} at most. Choose a codec with fewer quantities, or another vendor."
        )
