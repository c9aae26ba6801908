"""The statistics that openpi normalises with: ``norm_stats.json``, as its own loader would see the numbers.

Upstream computes them by running its data loader over the whole dataset. There a frame's action is a chunk of the steps
that follow, steps past the episode's end repeat its last, the arm's part is relative to the frame's state, and both
vectors are padded. Here the same rows are gathered from the columns, a few frames at a time. Upstream estimates
quantiles from histograms of 5000 bins and leaves out the last, partial batch; these statistics are exact and cover all
frames.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from positronic.bake import statistics
from positronic.bake.columns import Spool, spooled
from positronic.bake.companions import Companion
from positronic.bake.statistics import Stats
from positronic.codecs.build import Recipe
from positronic.codecs.features import VectorFeature
from positronic.codecs.modality import Column
from positronic.codecs.parts import EePose
from positronic.errors import PositronicError

REPO_ID = "lerobot"  # what openpi's positronic configs call their dataset
FILE_NAME = "norm_stats.json"
MODEL_DIM = 32  # pi0 and pi0.5: states and actions are padded to it with zeros
ROTATION = "quat_wxyz"
WRITTEN = ("mean", "std", "q01", "q99")
BLOCK_FRAMES = 1024  # whose chunks are gathered at once: 1.6 MB at 50 steps of 8 numbers


@dataclass(frozen=True)
class NormStats:
    """The content of ``norm_stats.json``: ``chunk`` steps of the action column, relative to the state column where
    ``delta_mask`` says so."""

    state: str
    action: str
    chunk: int
    delta_mask: tuple[bool, ...]

    def text(self, root: Path, held_out: Collection[int] = ()) -> str:
        """For the dataset in ``root`` but for the episodes ``held_out``. Rows are summed episode by episode, so no
        format changes a bit."""
        with spooled(root, [self.state, self.action], held_out) as spool:
            stats = {
                "state": statistics.of_blocks(lambda: (columns[self.state] for columns in spool.episodes())),
                "actions": self.of_actions(spool),
            }
        content = {"norm_stats": {name: _padded(each) for name, each in stats.items()}}
        return json.dumps(content, indent=2) + "\n"

    def of_actions(self, spool: Spool) -> Stats:
        """Over every step of every frame's chunk."""
        return statistics.of_blocks(lambda: action_rows(spool, self))


def companions(recipe: Recipe, dataset_format: str) -> dict[str, Companion]:
    """What a dataset for openpi holds beside LeRobot's files, in both formats.

    Raises PositronicError for a recipe that upstream cannot be trained with.
    """
    return {norm_stats_path(recipe): norm_stats(recipe)}


def norm_stats(recipe: Recipe) -> NormStats:
    """The statistics of a recipe that has an action chunk."""
    state, action = _state(recipe).name, recipe.modality.action_column.name
    return NormStats(state, action, recipe.modality_config.action_chunk, delta_mask(recipe))


def delta_mask(recipe: Recipe) -> tuple[bool, ...]:
    """openpi's DeltaActions mask, one for each number of the action: an arm's are relative to the state's at the same
    place, a gripper's are not."""
    return tuple(not feature.part.is_gripper for feature in recipe.codec.action for _ in range(feature.shape[0]))


def norm_stats_path(recipe: Recipe) -> str:
    """Where the file lies in a dataset. Raises PositronicError for a recipe that upstream cannot be trained with."""
    modality, state, action = recipe.modality_config, _state(recipe), recipe.codec.action
    if modality.config_name is None or modality.action_chunk is None:
        raise PositronicError(
            "openpi's statistics depend on its training config: expected modality.config_name and "
            f"modality.action_chunk, found {modality.config_name} and {modality.action_chunk}. Type both to bake."
        )
    wanted, found = _elements(action), _elements(state.sources)
    if any(wanted[k] not in found[k : k + 1] for k, is_relative in enumerate(delta_mask(recipe)) if is_relative):
        raise PositronicError(
            "openpi takes the numbers of the state from those of the action at the same places, so a state must begin "
            f"with the quantities of its action: found state {', '.join(s.name for s in state.sources)}, action "
            f"{', '.join(feature.name for feature in action)}. Choose one of the openpi codecs of docs/codecs.md."
        )
    other = [f.part.rotation for f in action if isinstance(f.part, EePose) and f.part.rotation != ROTATION]
    if other:
        raise PositronicError(
            f"openpi's configs take poses with {ROTATION}, 7 numbers, found {other[0]}. Type codec.rotation={ROTATION}."
        )
    return f"assets/{modality.config_name}/{REPO_ID}/{FILE_NAME}"


def action_rows(spool: Spool, what: NormStats) -> Iterator[NDArray[np.float32]]:
    """Every step of every frame's action chunk, relative to the frame's state, (frames x chunk, A) at a time."""
    for columns in spool.episodes():
        states, actions = columns[what.state], columns[what.action]
        origins = np.where(what.delta_mask, states[:, : actions.shape[1]], np.float32(0))
        for first in range(0, len(actions), BLOCK_FRAMES):
            frames = np.arange(first, min(first + BLOCK_FRAMES, len(actions)))
            steps = np.minimum(frames[:, None] + np.arange(what.chunk), len(actions) - 1)
            yield (actions[steps] - origins[frames, None]).reshape(-1, actions.shape[1])


def _elements(features: Sequence[VectorFeature]) -> list[str]:
    return [name for feature in features for name in feature.part.element_names]


def _state(recipe: Recipe) -> Column:
    return next(column for column in recipe.modality.vector_columns if not column.is_action)


def _padded(stats: Stats) -> dict[str, list[float]]:
    return {name: [*stats[name].tolist(), *[0.0] * (MODEL_DIM - len(stats[name]))] for name in WRITTEN}
