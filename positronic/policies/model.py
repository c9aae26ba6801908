"""A trained policy that answers many observations at a time; whatever the policy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from positronic.codecs.build import Recipe
from positronic.codecs.modality import Column
from positronic.errors import PositronicError
from positronic.policies.steps import batch_of
from positronic.policies.trainable import Parts
from positronic.training.device import autocast, to_device

FP32 = "fp32"

Act = Callable[[dict[str, Any], Tensor | None], Tensor]
"""A preprocessed batch, and the noise (B, *noise_shape) float32 that it starts from -> chunks (B, H, A), normalised."""


class PolicyModel:
    """``act``: the policy's own call. ``noise_shape``: of the noise that each row starts from; None: it draws none.

    Nothing is kept between calls, so that many robots can share it.
    """

    def __init__(
        self, parts: Parts, act: Act, recipe: Recipe, device: str, noise_shape: tuple[int, ...] | None = None
    ) -> None:
        self.noise_shape = noise_shape
        self._parts, self._act, self._device = parts, act, device
        self._columns = recipe.modality.observation_columns
        self._task_key = recipe.modality.task_key
        self._precision = FP32
        self._one_at_a_time = threading.Lock()  # processors of relative actions remember the state they came from

    def compute_in(self, precision: str) -> None:
        """From now on ``bf16``: matrix products and convolutions in bfloat16; or ``fp32``: as the policy was built."""
        self._precision = precision

    def compile(self, backend: str = "inductor") -> None:
        """Let torch compile the forward pass, at the first passes: that takes a minute or more."""
        self._act = torch.compile(self._act, backend=backend)

    def predict(
        self, observations: Sequence[Mapping[str, Any]], noise: Sequence[NDArray[np.float32]] | None = None
    ) -> list[NDArray[np.float32]]:
        """Columns of each observation -> a chunk (H, A) float32 each, unnormalised, from one forward pass.

        ``noise``: ``noise_shape`` float32 for each; None draws it. Raises PositronicError when a column is missing or
        has another shape than the policy was trained with.
        """
        if not observations:
            return []
        batch: dict[str, Any] = {column.name: _stacked(column, observations) for column in self._columns}
        batch[self._task_key] = [str(observation.get(self._task_key, "")) for observation in observations]
        start = self._start(len(observations), noise)
        with self._one_at_a_time, torch.inference_mode():
            seen = self._parts.before(batch_of(self._parts.steps, to_device(batch, self._device)))
            with autocast(self._device, self._precision):
                chunks = self._act(seen, start)
            actions = self._parts.after(chunks if self._precision == FP32 else chunks.float())
        return list(actions.float().cpu().numpy())

    def close(self) -> None:
        """Give back the memory of the weights, though others may still hold the network. It predicts no more."""
        module = self._parts.module
        for weights in (*module.parameters(), *module.buffers()):
            weights.data = torch.empty(0, dtype=weights.dtype)

    def _start(self, count: int, noise: Sequence[NDArray[np.float32]] | None) -> Tensor | None:
        if self.noise_shape is None:
            return None
        if noise is None:
            return torch.randn(count, *self.noise_shape, device=self._device)
        return torch.from_numpy(np.stack(noise)).to(self._device)


def _stacked(column: Column, observations: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    for observation in observations:
        found = np.shape(observation[column.name]) if column.name in observation else "nothing"
        if found != column.shape:
            raise PositronicError(f"Observation column '{column.name}': expected {column.shape}, found {found}.")
    return np.stack([np.asarray(observation[column.name], column.dtype) for observation in observations])
