"""What a trained policy of any vendor looks like to the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ChunkModel(Protocol):
    """Predicts chunks of actions. Holds no state between calls, so that many robots can share it.

    ``noise_shape``: of the random numbers that a chunk starts from, for policies that draw some, and else None.
    """

    noise_shape: tuple[int, ...] | None

    def predict(
        self, observations: Sequence[Mapping[str, Any]], noise: Sequence[NDArray[np.float32]] | None = None
    ) -> list[NDArray[np.float32]]:
        """Observations (the modality's columns: vectors float32 (D,), images uint8 (H, W, 3); and the task) -> one
        chunk (H, A) float32 each, in the units of the dataset, from one forward pass.

        ``noise``: standard normal numbers of ``noise_shape`` for each observation, so that a robot's chunk depends on
        its own alone; None draws them anew.
        """
        ...

    def close(self) -> None:
        """Give back what the model holds outside of itself, e.g. a process. It predicts no more."""
        ...
