"""What GR00T's own loader must be told about a dataset: ``meta/modality.json``, the statistics of relative actions, and
the name of its modality config.

Both follow from the recipe. Upstream reads the file beside a v2.1 dataset; it says which slice of which column is which
part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from positronic import keys
from positronic.bake.companions import Companion
from positronic.bake.features import TASK_INDEX
from positronic.codecs.build import Recipe
from positronic.codecs.config import CodecConfig
from positronic.codecs.features import VectorFeature
from positronic.errors import PositronicError, listing
from positronic.vendors.gr00t.parts import part_name
from positronic.vendors.gr00t.relative import relative_file

MODALITY_FILE, RELATIVE_FILE = "meta/modality.json", "meta/relative_stats.json"
ANNOTATION = "annotation."  # how the keys of instructions begin in observations; modality.json leaves it out

# The modality configs that Positronic's fork of GR00T has, gr00t/configs/data/positronic_*.py.
NAMES = ("ee", "ee_q", "ee_rot6d", "ee_rot6d_rel", "ee_rot6d_q", "ee_rot6d_q_rel", "joints")
POSE_NAMES = {"quat_wxyz": "ee", "rot6d_rows": "ee_rot6d"}


def companions(recipe: Recipe, dataset_format: str) -> dict[str, Companion]:
    """What a dataset for GR00T holds beside LeRobot's files; upstream reads v2.1 only."""
    if dataset_format != keys.FORMAT_V21:
        return {}
    if not recipe.embodiment.has_several_arms:  # the fork has no config for those: upstream is given one
        modality_name(recipe)  # raises for what upstream could not train
    relative = relative_file(recipe)
    beside = {} if relative is None else {RELATIVE_FILE: relative}
    return {MODALITY_FILE: json.dumps(modality_json(recipe), indent=4) + "\n"} | beside


def modality_json(recipe: Recipe) -> dict[str, Any]:
    """The content of ``meta/modality.json``. Raises PositronicError for columns that upstream cannot be told of."""
    modality = recipe.modality
    if modality.action_column.name != keys.LEROBOT_ACTION or not modality.task_key.startswith(ANNOTATION):
        raise PositronicError(
            f"GR00T reads actions from column '{keys.LEROBOT_ACTION}' and the instruction from '{ANNOTATION}<name>', "
            f"found '{modality.action_column.name}' and '{modality.task_key}'. Leave modality.columns and "
            "modality.task_key as conf/modality/gr00t has them."
        )
    states = (column for column in modality.vector_columns if not column.is_action)
    return {
        "state": {column.name: {"start": 0, "end": column.shape[0], "original_key": column.name} for column in states},
        "action": _slices(recipe.codec.action),
        "video": {column.name: {"original_key": column.name} for column in modality.image_columns},
        "annotation": {modality.task_key.removeprefix(ANNOTATION): {"original_key": TASK_INDEX}},
    }


def modality_name(recipe: Recipe) -> str:
    """The modality config that upstream trains this recipe with: ``ee``, ``ee_rot6d_q_rel``, ``joints``, ...

    Raises PositronicError when there is none.
    """
    codec, relative = recipe.codec_config, recipe.modality_config.relative_actions
    name = _base_name(codec) + ("_rel" if relative else "")
    if name not in NAMES:
        raise PositronicError(
            f"GR00T has no modality config for states {', '.join(codec.state)}, action {codec.action}, rotation "
            f"{codec.rotation} and {'relative' if relative else 'absolute'} actions; it has {listing(NAMES)}. "
            "Choose one of the gr00t codecs of docs/codecs.md."
        )
    return name


def _base_name(codec: CodecConfig) -> str:
    if "ee_pose" in codec.state and codec.action == "ee_pose":
        return POSE_NAMES.get(codec.rotation, codec.rotation) + ("_q" if "joint_position" in codec.state else "")
    return "joints" if codec.action == "joint_position" else codec.action


def _slices(features: Sequence[VectorFeature]) -> dict[str, dict[str, int]]:
    """Part -> its slice of the features side by side."""
    slices, start = {}, 0
    for feature in features:
        slices[part_name(feature)] = {"start": start, "end": start + feature.shape[0]}
        start += feature.shape[0]
    return slices
