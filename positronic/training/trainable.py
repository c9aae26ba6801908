"""What the training loop asks of a policy; each vendor brings its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from positronic.bake.reader import BakedDataset, Stats
from positronic.codecs.build import Recipe
from positronic.training.noise import Part


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that the policy library trains at its own ``learning_rate``."""

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float


class Trainable(Protocol):
    """A policy on its device, ready to be trained.

    ``action_offsets`` (H,): the steps of an action chunk relative to the observation. ``with_task``: whether it is
    language-conditioned, and the task belongs in its batches. ``fields``: every resolved field of its config.
    """

    module: nn.Module
    action_offsets: NDArray[np.int64]
    with_task: bool
    fields: dict[str, Any]

    def groups(self) -> list[ParameterGroup]:
        """What is trained, at the library's own learning rates."""
        ...

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Columns on the device (images float (B, 3, H, W) in 0..1, nothing normalised) -> a scalar."""
        ...

    def part_loss(self, batch: Mapping[str, Any], part: Part) -> Tensor:
        """Columns of ``part`` of a batch -> what it adds to the loss of the whole batch, a scalar."""
        ...

    def save(self, folder: Path) -> None:
        """Write the vendor's own checkpoint layout into the existing ``folder``."""
        ...

    def load(self, folder: Path) -> None:
        """Take back the weights that ``save`` wrote."""
        ...


@dataclass(frozen=True)
class PolicySpec:
    """What policy to build. ``policy``: the library's own fields. ``base``: the folder of pretrained weights, or None
    for random ones. ``toy``: at a size for trying things out. ``mask_padding``: the loss does not count steps past an
    episode's end, for a policy that would. ``dataset``: what will be trained on, for a policy that needs more of it
    than ``stats``. ``resumed``: what ``Trainable.save`` wrote of the checkpoint that training goes on from; ``base``
    is not needed then, and the weights are taken by ``Trainable.load``.
    """

    recipe: Recipe
    stats: Stats
    policy: Mapping[str, Any]
    device: str
    precision: str = "fp32"
    base: Path | None = None
    toy: bool = False
    mask_padding: bool = False
    dataset: BakedDataset | None = None
    resumed: Path | None = None


class TrainableFactory(Protocol):
    """Builds a Trainable. Raises PositronicError when ``spec.policy`` is not right."""

    def __call__(self, spec: PolicySpec) -> Trainable: ...
