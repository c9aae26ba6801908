"""A policy of lerobot's with its processors, as the training loop wants it; whatever the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from positronic.bake.reader import Stats
from positronic.policies.config import described
from positronic.policies.steps import Steps, batch_of
from positronic.policies.weights import Weights
from positronic.training.noise import Part
from positronic.training.trainable import ParameterGroup

Processor = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Parts:
    """What a policy is made of. ``steps``: from the recipe's columns to its batch. ``before``, ``after``: lerobot's
    processors around ``module``, which is on its device. ``reads_task``: whether it is language-conditioned."""

    config: Any
    module: nn.Module
    before: Any
    after: Any
    steps: Steps
    reads_task: bool


Loss = Callable[[nn.Module, dict[str, Any]], Tensor]
"""A policy and a preprocessed batch -> a scalar."""
PartLoss = Callable[[nn.Module, dict[str, Any], Part], Tensor]
"""A policy and a preprocessed part of a batch -> what it adds to the batch's loss, a scalar."""


class PolicyTrainable:
    """``write``: what a checkpoint holds beside the weights. ``loss``: None takes the policy's own. ``weights``: how
    those are kept. ``real_steps``: whether the loss is a mean over the steps inside episodes alone, not over all.
    ``part_loss``: of a loss that is neither.
    """

    def __init__(
        self,
        parts: Parts,
        write: Callable[[Path], None],
        loss: Loss | None = None,
        weights: Weights | None = None,
        real_steps: bool = False,
        part_loss: PartLoss | None = None,
    ) -> None:
        self.module = parts.module
        self.action_offsets = np.asarray(parts.config.action_delta_indices, np.int64)
        self.with_task = parts.reads_task
        self.fields = described(parts.config)
        self._parts, self._write, self._loss = parts, write, loss or _own_loss
        self._weights = weights or Weights()
        self._part_loss = part_loss or (self._of_steps if real_steps else self._of_rows)

    def groups(self) -> list[ParameterGroup]:
        """What is trained, at lerobot's own learning rates."""
        preset, given = self._parts.config.get_optimizer_preset(), self.module.get_optim_params()
        if isinstance(given, dict) and "params" not in given:  # by name, of which the optimiser makes the groups
            given = [group for group in preset.build(given).param_groups if group["params"]]
        groups = given if isinstance(given, list) and isinstance(given[0], dict) else [{"params": given}]
        return [ParameterGroup(tuple(group["params"]), group.get("lr", preset.lr)) for group in groups]

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Columns on the device -> the loss, a scalar."""
        return self._loss(self.module, self._prepared(batch))

    def part_loss(self, batch: Mapping[str, Any], part: Part) -> Tensor:
        """Columns of ``part`` of a batch -> what it adds to the loss of the whole batch, a scalar."""
        return self._part_loss(self.module, self._prepared(batch), part)

    def save(self, folder: Path) -> None:
        """A layout that needs nothing outside of ``folder``."""
        self._weights.save(self.module, folder)
        self._write(folder)

    def load(self, folder: Path) -> None:
        """Take back the weights that ``save`` wrote."""
        self._weights.load(self.module, folder)

    def _prepared(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return self._parts.before(batch_of(self._parts.steps, batch))

    def _of_rows(self, module: nn.Module, batch: dict[str, Any], part: Part) -> Tensor:
        return self._loss(module, batch) * part.rows

    def _of_steps(self, module: nn.Module, batch: dict[str, Any], part: Part) -> Tensor:
        return self._loss(module, batch) * part.steps


def _own_loss(module: nn.Module, batch: dict[str, Any]) -> Tensor:
    return module(batch)[0]


def tensors(stats: Stats) -> dict[str, dict[str, Tensor]]:
    """Statistics as lerobot's processors take them."""
    return {
        name: {key: torch.as_tensor(np.asarray(value), dtype=torch.float32) for key, value in values.items()}
        for name, values in stats.items()
    }
