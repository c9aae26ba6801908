"""The three files that GR00T keeps beside its weights, from our recipe and statistics: ``statistics.json``,
``processor_config.json`` and ``embodiment_id.json``.

Upstream and lerobot's port normalise by them part by part: a part of the state is a column, a part of the action is
the quantity of an arm. lerobot can also build relative actions from a dataset itself. It is not used here: there a
state's numbers beyond those of the action are cut off at 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.bake import statistics
from positronic.bake.reader import BakedDataset, Stats
from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.build import Recipe
from positronic.codecs.features import VectorFeature
from positronic.codecs.modality import Column
from positronic.errors import PositronicError, listing
from positronic.policies.floors import floored, with_floor
from positronic.vendors.gr00t.modality import part_name

STATISTICS_FILE, PROCESSOR_FILE = "statistics.json", "processor_config.json"
EMBODIMENT_FILE = "embodiment_id.json"
TAG = "new_embodiment"  # GR00T's name for a robot that it was not pretrained with
SLOT = 10  # of its projectors
WRITTEN = ("min", "max", "mean", "std", "q01", "q99")
# How upstream treats pictures and texts, for a base that does not say it: resized, cropped in the middle, resized.
PICTURES = {
    "image_target_size": [256, 256],
    "image_crop_size": [230, 230],
    "use_albumentations": False,
    "formalize_language": True,
    "state_dropout_prob": 0.0,
}

Numbers = dict[str, NDArray[np.float64]]
"""min, max, mean, ...: (D,), or (H, D) for each step of a chunk."""


@dataclass(frozen=True)
class ActionPart:
    """``columns``: its place in the action. ``is_relative``: a label is what it is beyond the state's part of this
    name."""

    name: str
    columns: slice
    is_relative: bool


def state_columns(recipe: Recipe) -> list[Column]:
    """The parts of the state, in the order in which they are joined."""
    return [column for column in recipe.modality.vector_columns if not column.is_action]


def action_parts(recipe: Recipe) -> list[ActionPart]:
    """The parts of the action, in the order of its numbers.

    Raises PositronicError for a relative part that the state does not have.
    """
    parts, start = [], 0
    for feature in recipe.codec.action:
        stop = start + feature.shape[0]
        is_relative = recipe.modality_config.relative_actions and not feature.part.is_gripper
        if is_relative:
            _require_in_state(recipe, feature)
        parts.append(ActionPart(part_name(feature), slice(start, stop), is_relative))
        start = stop
    return parts


def sidecars(
    recipe: Recipe, stats: Stats, dataset: BakedDataset | None, network: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, Any]:
    """File -> content. ``dataset``: what relative labels are taken from. ``network``: GR00T's own config. ``base``:
    what is beside the weights that training starts from, by file; what it says of pictures and texts stays.
    """
    slots = {**base.get(EMBODIMENT_FILE, {}), TAG: base.get(EMBODIMENT_FILE, {}).get(TAG, SLOT)}
    return {
        STATISTICS_FILE: {TAG: _statistics(recipe, stats, dataset)},
        PROCESSOR_FILE: _processor(recipe, network, base.get(PROCESSOR_FILE, {})),
        EMBODIMENT_FILE: slots,
    }


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


def _statistics(recipe: Recipe, stats: Stats, dataset: BakedDataset | None) -> dict[str, Any]:
    for column in recipe.modality.vector_columns:
        missing = [name for name in WRITTEN if name not in stats.get(column.name, {})]
        if missing:
            raise PositronicError(
                f"Column '{column.name}': GR00T's statistics need {listing(WRITTEN)}, and the dataset's lack "
                f"{listing(missing)}. Convert the recording with this version."
            )
    known = floored(recipe.modality.vector_columns, stats)
    action, parts = recipe.modality.action_column.name, action_parts(recipe)
    relative = [part for part in parts if part.is_relative]
    return {
        "state": {column.name: _written(known[column.name]) for column in state_columns(recipe)},
        "action": {part.name: _written(_cut(known[action], part.columns)) for part in parts},
        "relative_action": {part.name: _written(_of_labels(part, recipe, dataset)) for part in relative},
    }


def _of_labels(part: ActionPart, recipe: Recipe, dataset: BakedDataset | None) -> Numbers:
    if dataset is None:
        raise PositronicError("GR00T's relative actions are normalised by a dataset's labels: there is no dataset.")
    actions = dataset.vectors[recipe.modality.action_column.name][:, part.columns]
    places = dataset.vectors[part.name], dataset.starts, dataset.ends
    return with_floor(relative_stats(actions, *places, recipe.modality_config.action_chunk), STD_FLOOR)


def _processor(recipe: Recipe, network: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    ours = {
        "modality_configs": {TAG: _modality_config(recipe)},
        "use_relative_action": any(part.is_relative for part in action_parts(recipe)),
        "use_percentiles": False,  # with q01 and q99, two labels of a hundred would be clipped
        "use_mean_std": False,
        "clip_outliers": True,
        "max_action_horizon": network["action_horizon"],
        "max_action_dim": network["max_action_dim"],
        "max_state_dim": network["max_state_dim"],
    }
    theirs = PICTURES | dict(base.get("processor_kwargs", {}))
    return {"processor_class": "Gr00tN1d7Processor", **base, "processor_kwargs": theirs | ours}


def _modality_config(recipe: Recipe) -> dict[str, Any]:
    modality, parts = recipe.modality, action_parts(recipe)
    configs = [
        {"rep": "RELATIVE" if part.is_relative else "ABSOLUTE", "type": "NON_EEF", "format": "DEFAULT"}
        for part in parts
    ]
    return {
        "video": _part(column.name for column in modality.image_columns),
        "state": _part(column.name for column in state_columns(recipe)),
        "action": _part((part.name for part in parts), recipe.modality_config.action_chunk)
        | {"action_configs": [config | {"state_key": None} for config in configs]},
        "language": _part([modality.task_key]),
    }


def _part(names: Iterable[str], steps: int = 1) -> dict[str, Any]:
    return {"delta_indices": list(range(steps)), "modality_keys": list(names)}


def _written(stats: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: np.asarray(stats[name]).tolist() for name in WRITTEN}


def _cut(stats: Mapping[str, NDArray[Any]], columns: slice) -> Numbers:
    return {name: stats[name][columns] for name in WRITTEN}


def _require_in_state(recipe: Recipe, feature: VectorFeature) -> None:
    wanted, there = part_name(feature), {column.name: column for column in state_columns(recipe)}
    if wanted not in there or _elements(there[wanted].sources) != _elements([feature]):
        raise PositronicError(
            f"modality.relative_actions=true: the action's part '{wanted}' would be relative to a state column of "
            f"this name and layout; codec={recipe.codec.name} has {listing(there)}. Choose a codec whose state has it, "
            "or leave modality.relative_actions out."
        )


def _elements(features: Sequence[VectorFeature]) -> list[str]:
    return [name for feature in features for name in feature.part.element_names]
