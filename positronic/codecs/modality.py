"""What a vendor makes of a codec's canonical features: column names, joined vectors, the task key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.codecs.codec import Codec
from positronic.codecs.features import Feature, ImageFeature
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
    """Columns in the vendor's order, and the key under which the language instruction travels."""

    columns: tuple[Column, ...]
    task_key: str

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
    def action_column(self) -> Column:
        return next(column for column in self.columns if column.is_action)

    def observation(self, canonical: Mapping[str, NDArray[Any]], task: str) -> dict[str, Any]:
        """A live observation's canonical features as the model's columns, the task under ``task_key``."""
        return {column.name: column.join(canonical) for column in self.observation_columns} | {self.task_key: task}


def build_modality(codec: Codec, columns: Mapping[str, list[str]], task_key: str) -> Modality:
    """Resolve column sources. Raises PositronicError for an unknown source, one left out, or actions out of order."""
    built = tuple(Column(name, tuple(_source(codec, name, s) for s in sources)) for name, sources in columns.items())
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
    return Modality(built, task_key)


def _source(codec: Codec, column: str, name: str) -> Feature:
    if name not in codec.features:
        hint = did_you_mean(name, codec.features)
        raise PositronicError(
            f"Column '{column}': codec '{codec.name}' has no feature '{name}', only {listing(codec.features)}.{hint}"
        )
    return codec.features[name]
