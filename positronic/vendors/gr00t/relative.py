"""Statistics of relative labels: what a step of a chunk is beyond the state that the chunk starts from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from positronic.bake import statistics
from positronic.bake.columns import Spool, spooled
from positronic.codecs.build import Recipe
from positronic.vendors.gr00t.parts import ActionPart, action_parts

WRITTEN = ("min", "max", "mean", "std", "q01", "q99")
BLOCK_FRAMES = 1024  # whose chunks are gathered at once

Numbers = dict[str, NDArray[np.float64]]
"""min, max, mean, ...: (D,), or (H, D) for each step of a chunk."""


def relative_stats(
    actions: NDArray[np.float32],
    states: NDArray[np.float32],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    horizon: int,
) -> Numbers:
    """Statistics (H, D) of ``actions`` (N, D) beyond the ``states`` (N, D) that their chunk starts from, step by step.

    They cover every label that training learns from, those of chunks that reach beyond their episode's end included
    (upstream takes whole chunks only), so that none is clipped. A step that no episode is long enough for has the
    numbers of the step before.
    """
    left = np.repeat(ends, ends - starts) - np.arange(len(actions))  # steps from each row to its episode's end
    steps: list[Numbers] = []
    for step in range(horizon):
        rows = np.flatnonzero(left > step)
        steps.append(statistics.of_rows(actions[rows + step] - states[rows]) if len(rows) else steps[-1])
    return {name: np.stack([each[name] for each in steps]) for name in WRITTEN}


@dataclass(frozen=True)
class RelativeStats:
    """The content of ``meta/relative_stats.json``, which upstream trains with: of chunks of ``horizon`` steps that lie
    inside of their episode. Upstream does not compute again what is in the file."""

    action: str
    parts: tuple[ActionPart, ...]
    horizon: int

    def text(self, root: Path, held_out: Collection[int] = ()) -> str:
        """For the dataset in ``root`` but for the episodes ``held_out``."""
        columns = [self.action, *(part.name for part in self.parts)]
        with spooled(root, columns, held_out) as spool:
            content = {part.name: self._of_part(spool, part) for part in self.parts}
        return json.dumps({name: each for name, each in content.items() if each}, indent=4) + "\n"

    def _of_part(self, spool: Spool, part: ActionPart) -> dict[str, list[list[float]]]:
        if not any(True for _ in self._chunks(spool, part)):
            return {}  # no episode is long enough
        stats = statistics.of_blocks(lambda: self._chunks(spool, part))
        return {name: stats[name].reshape(self.horizon, -1).tolist() for name in WRITTEN}

    def _chunks(self, spool: Spool, part: ActionPart) -> Iterator[NDArray[np.float32]]:
        """Labels of whole chunks, (frames, horizon x D) at a time."""
        for columns in spool.episodes():
            actions, states = columns[self.action][:, part.columns], columns[part.name]
            whole = len(actions) - self.horizon + 1
            for first in range(0, whole, BLOCK_FRAMES):
                frames = np.arange(first, min(first + BLOCK_FRAMES, whole))
                chunks = actions[frames[:, None] + np.arange(self.horizon)] - states[frames, None]
                yield chunks.reshape(len(frames), -1)


def relative_file(recipe: Recipe) -> RelativeStats | None:
    """For a recipe whose actions are relative; None for another."""
    relative = tuple(part for part in action_parts(recipe) if part.is_relative)
    if not relative:
        return None
    return RelativeStats(recipe.modality.action_column.name, relative, recipe.modality_config.action_chunk)
