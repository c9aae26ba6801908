"""The exponential moving average of the weights that are trained: the weights that are judged and served.

Training goes on with the weights themselves. Both are in the training state: the average in float32, from which the
policy's own type of number may not bring it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

AVERAGES_FILE = "averages.pt"


class Averages:
    """Of those ``parameters`` that are trained. ``decay``: of what was before, at each step. In the first steps it is
    less, (1 + step) / (10 + step), so that the weights that training started from are forgotten in time."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = [each for each in parameters if each.requires_grad], decay
        self._averages = [parameter.detach().float().clone() for parameter in self._parameters]

    @property
    def nbytes(self) -> int:
        """Of the averages."""
        return sum(average.nbytes for average in self._averages)

    def update(self, step: int) -> None:
        """Take in the weights after 1-based ``step``."""
        weights = [parameter.detach().float() for parameter in self._parameters]
        torch._foreach_lerp_(self._averages, weights, 1 - min(self._decay, (1 + step) / (10 + step)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the policy has the averages as its weights."""
        weights = [parameter.data for parameter in self._parameters]
        try:
            for parameter, average in zip(self._parameters, self._averages, strict=True):
                parameter.data = average.to(parameter.dtype)  # of float32 no copy
            yield
        finally:
            for parameter, weight in zip(self._parameters, weights, strict=True):
                parameter.data = weight

    def save(self, folder: Path) -> None:
        """Write averages and weights into the existing ``folder``."""
        weights = [parameter.detach() for parameter in self._parameters]
        with (folder / AVERAGES_FILE).open("wb") as file:
            torch.save({"averages": self._averages, "weights": weights}, file)

    def load(self, folder: Path) -> None:
        """Take back both; until now the policy has the averages, as its checkpoint has them."""
        state = torch.load(folder / AVERAGES_FILE, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for k, parameter in enumerate(self._parameters):
                parameter.copy_(state["weights"][k])
                self._averages[k].copy_(state["averages"][k])
