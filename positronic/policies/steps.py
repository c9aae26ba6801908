"""From a recipe's columns to what a policy of LeRobot's reads: a list of small steps.

The same list carries batches in training, observations in serving, statistics, and shapes, so that the four cannot
differ in what comes after what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from positronic import keys
from positronic.bake.reader import Stats
from positronic.codecs.modality import Modality

Join = Callable[[Sequence[Any]], Any]
"""Values of columns -> that of a column which holds them side by side."""


class Step(Protocol):
    """Takes named values and gives them on, some under other names or joined. What it does not know passes."""

    def __call__(self, values: Mapping[str, Any], join: Join) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Rename:
    """The value of ``column`` under the name ``key``."""

    column: str
    key: str

    def __call__(self, values: Mapping[str, Any], join: Join) -> dict[str, Any]:
        return {self.key if name == self.column else name: value for name, value in values.items()}


@dataclass(frozen=True)
class SideBySide:
    """The vectors ``columns``, in this order, as one vector ``key``."""

    columns: tuple[str, ...]
    key: str

    def __call__(self, values: Mapping[str, Any], join: Join) -> dict[str, Any]:
        rest = {name: value for name, value in values.items() if name not in self.columns}
        return rest | {self.key: join([values[column] for column in self.columns])}


@dataclass(frozen=True)
class Without:
    """All values but ``key``."""

    key: str

    def __call__(self, values: Mapping[str, Any], join: Join) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name != self.key}


@dataclass(frozen=True)
class First:
    """The values ``names`` that are there in this order, before all others: some policies go by the place."""

    names: tuple[str, ...]

    def __call__(self, values: Mapping[str, Any], join: Join) -> dict[str, Any]:
        return {name: values[name] for name in (*self.names, *values) if name in values}


Steps = Sequence[Step]


def batch_of(steps: Steps, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors (B, ...) and texts by column -> by the policy's own keys."""
    return _through(steps, columns, lambda tensors: torch.cat(list(tensors), dim=-1))


def stats_of(steps: Steps, stats: Stats) -> Stats:
    """The statistics of the columns, by the policy's own keys."""
    return _through(steps, stats, lambda each: {name: np.concatenate([s[name] for s in each]) for name in each[0]})


def shapes_of(steps: Steps, modality: Modality) -> dict[str, tuple[int, ...]]:
    """What the policy sees, by its own keys: vectors (D,), images (H, W, 3)."""
    shapes = {column.name: column.shape for column in modality.columns}
    return _through(steps, shapes, lambda each: (sum(shape[0] for shape in each),))


def task_step(modality: Modality, reads_task: bool) -> Step:
    """The instruction under LeRobot's own key; not at all for a policy that does not read it."""
    return Rename(modality.task_key, keys.LEROBOT_TASK) if reads_task else Without(modality.task_key)


def _through(steps: Steps, values: Mapping[str, Any], join: Join) -> dict[str, Any]:
    for step in steps:
        values = step(values, join)
    return dict(values)
