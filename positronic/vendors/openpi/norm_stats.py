"""The statistics that openpi normalises with: ``norm_stats.json``, as its own loader would see the numbers.

Upstream computes them by running its data loader over the whole dataset. There a frame's action is a chunk of the steps
that follow, steps past the episode's end repeat its last, the arm's part is relative to the frame's state, and both
vectors are padded. Here the same rows are gathered from the columns, a few frames at a time. Upstream estimates
quantiles from histograms of 5000 bins and leaves out the last, partial batch; these statistics are exact and cover all
frames.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from positronic.bake import statistics
from positronic.bake.columns import Spool, spooled
from positronic.bake.companions import Companion
from positronic.bake.statistics import Stats
from positronic.codecs.build import Recipe
from positronic.codecs.modality import Column
from positronic.errors import PositronicError

REPO_ID = "lerobot"  # what openpi's positronic configs call their dataset
FILE_NAME = "norm_stats.json"
MODEL_DIM = 32  # pi0 and pi0.5: states and actions are padded to it with zeros
ARM_DIM = 7  # openpi's DeltaActions mask: the first seven are relative to the state, the gripper is not
WRITTEN = ("mean", "std", "q01", "q99")
BLOCK_FRAMES = 1024  # whose chunks are gathered at once: 1.6 MB at 50 steps of 8 numbers


@dataclass(frozen=True)
class NormStats:
    """The content of ``norm_stats.json``: ``chunk`` steps of the action column, relative to the state column."""

    state: str
    action: str
    chunk: int

    def text(self, root: Path, held_out: Collection[int] = ()) -> str:
        """For the dataset in ``root`` but for the episodes ``held_out``. Rows are summed episode by episode, so no
        format changes a bit."""
        with spooled(root, [self.state, self.action], held_out) as spool:
            stats = {
                "state": statistics.of_blocks(lambda: (columns[self.state] for columns in spool.episodes())),
                "actions": statistics.of_blocks(lambda: action_rows(spool, self.state, self.action, self.chunk)),
            }
        content = {"norm_stats": {name: _padded(each) for name, each in stats.items()}}
        return json.dumps(content, indent=2) + "\n"


def companions(recipe: Recipe, dataset_format: str) -> dict[str, Companion]:
    """What a dataset for openpi holds beside LeRobot's files, in both formats.

    Raises PositronicError for a recipe that upstream cannot be trained with.
    """
    path = norm_stats_path(recipe)
    chunk = recipe.modality_config.action_chunk
    return {path: NormStats(_state(recipe).name, recipe.modality.action_column.name, chunk)}


def norm_stats_path(recipe: Recipe) -> str:
    """Where the file lies in a dataset. Raises PositronicError for a recipe that upstream cannot be trained with."""
    modality, state, action = recipe.modality_config, _state(recipe), recipe.codec.action
    if modality.config_name is None or modality.action_chunk is None:
        raise PositronicError(
            "openpi's statistics depend on its training config: expected modality.config_name and "
            f"modality.action_chunk, found {modality.config_name} and {modality.action_chunk}. Type both to bake."
        )
    parts = [feature.part.name for feature in action]
    if state.sources[0].part.name != parts[0] or [feature.shape[0] for feature in action] != [ARM_DIM, 1]:
        raise PositronicError(
            f"openpi takes the first {ARM_DIM} numbers of the state from those of the action, so both must be the same "
            f"quantity: found state {state.sources[0].name}, action {', '.join(parts)} of {recipe.codec.action_size}. "
            "Choose one of the openpi codecs of docs/codecs.md."
        )
    return f"assets/{modality.config_name}/{REPO_ID}/{FILE_NAME}"


def action_rows(spool: Spool, state: str, action: str, chunk: int) -> Iterator[NDArray[np.float32]]:
    """Every step of every frame's action chunk, relative to the frame's state, (frames x chunk, A) at a time."""
    for columns in spool.episodes():
        states, actions = columns[state], columns[action]
        origins = np.zeros_like(actions)
        origins[:, :ARM_DIM] = states[:, :ARM_DIM]
        for first in range(0, len(actions), BLOCK_FRAMES):
            frames = np.arange(first, min(first + BLOCK_FRAMES, len(actions)))
            steps = np.minimum(frames[:, None] + np.arange(chunk), len(actions) - 1)
            yield (actions[steps] - origins[frames, None]).reshape(-1, actions.shape[1])


def _state(recipe: Recipe) -> Column:
    return next(column for column in recipe.modality.vector_columns if not column.is_action)


def _padded(stats: Stats) -> dict[str, list[float]]:
    return {name: [*stats[name].tolist(), *[0.0] * (MODEL_DIM - len(stats[name]))] for name in WRITTEN}
