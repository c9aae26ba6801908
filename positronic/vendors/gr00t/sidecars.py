"""The three files that GR00T keeps beside its weights, from our recipe and statistics: ``statistics.json``,
``processor_config.json`` and ``embodiment_id.json``.

Upstream and lerobot's port normalise by them part by part: a part of the state is a column, a part of the action is
the quantity of an arm. lerobot can also build relative actions from a dataset itself. It is not used here: there a
state's numbers beyond those of the action are cut off at 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.bake.reader import BakedDataset, Stats
from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError, listing
from positronic.policies.floors import floored, with_floor
from positronic.vendors.gr00t.parts import ActionPart, action_parts, state_columns
from positronic.vendors.gr00t.relative import WRITTEN, Numbers, relative_stats

STATISTICS_FILE, PROCESSOR_FILE = "statistics.json", "processor_config.json"
EMBODIMENT_FILE = "embodiment_id.json"
TAG = "new_embodiment"  # GR00T's name for a robot that it was not pretrained with
SLOT = 10  # of its projectors
# How upstream treats pictures and texts, for a base that does not say it: resized, cropped in the middle, resized.
PICTURES = {
    "image_target_size": [256, 256],
    "image_crop_size": [230, 230],
    "use_albumentations": False,
    "formalize_language": True,
    "state_dropout_prob": 0.0,
}


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
        "modality_configs": {TAG: modality_config(recipe)},
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


def modality_config(recipe: Recipe) -> dict[str, Any]:
    """What the parts of observation and action are called, their order and their steps, as upstream writes it."""
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
