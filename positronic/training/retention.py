"""Which checkpoints of an experiment stay, and which one is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from positronic.storage.place import Place
from positronic.training.checkpoints import VAL_LOSS, Checkpoint, list_checkpoints, remove_checkpoint


@dataclass(frozen=True)
class Retention:
    """``last``: so many of the newest stay; None: all do. ``every``: those of a multiple of so many steps stay too."""

    last: int | None = None
    every: int | None = None

    def superfluous(self, experiment_dir: str | Path | Place) -> list[Checkpoint]:
        """Those that may go. The best one by the loss of held-out episodes stays, and so does the newest."""
        checkpoints = [] if self.last is None else list_checkpoints(experiment_dir)
        old = checkpoints[: -self.last] if self.last else []
        found = best(checkpoints) if old else None
        return [each for each in old if each != found and not (self.every and each.step % self.every == 0)]

    def prune(self, experiment_dir: Path) -> None:
        """Remove them. One that somebody reads stays until the next time."""
        for checkpoint in self.superfluous(experiment_dir):
            remove_checkpoint(checkpoint)


def best(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest loss of held-out episodes, the first of equals; None where none tells it."""
    told = [(checkpoint.info().get(VAL_LOSS), checkpoint) for checkpoint in checkpoints]
    finite = [(loss, checkpoint) for loss, checkpoint in told if isinstance(loss, float) and math.isfinite(loss)]
    return min(finite, key=lambda each: each[0])[1] if finite else None
