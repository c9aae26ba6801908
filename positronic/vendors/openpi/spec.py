"""Our recipe as openpi's own code is told of it, and what it takes of ``vendor.policy``. Nothing heavy is imported.

A spec is JSON, for ``launch.py``:

    name          of the config
    repo_id       of the dataset, as openpi calls it
    columns       name in openpi -> column of the dataset, or the prompt
    images        place of a camera in the model -> name in openpi
    state         its name in openpi
    delta_mask    which numbers of an action are relative to the state
    action_size   numbers of an action
    pad_to        numbers to which state and actions are padded before they are normalised; null: after, as openpi does
    mask_missing  whether the place of a camera that is not there is masked, as openpi does
    model         fields of openpi's Pi0Config
    run           of a training only: weights, optimizer, ema_decay
    stats         of statistics only: batch_size, num_workers, assets_base_dir

Padding and mask are values because openpi and Positronic's fork of it differ in both, and a checkpoint that was trained
with one convention is wrong under the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError, listing
from positronic.vendors.openpi.configs import CAMERAS, LORA, POLICY_TYPE, require_trainable
from positronic.vendors.openpi.norm_stats import MODEL_DIM, REPO_ID, delta_mask, norm_stats, norm_stats_path

SPEC_FILE = "openpi.json"  # in a checkpoint's pretrained_model too, without ``run``
# openpi's places of cameras, in the order of its pretraining, and what its policies of two cameras call them.
PLACES = {
    "base_0_rgb": keys.OPENPI_IMAGE,
    "left_wrist_0_rgb": keys.OPENPI_WRIST_IMAGE,
    "right_wrist_0_rgb": keys.OPENPI_RIGHT_WRIST_IMAGE,
}
ACTIONS = keys.OPENPI_ACTIONS
PAD_FIRST, MASK_MISSING = "pad_before_normalizing", "mask_missing_camera"
CONVENTIONS = {PAD_FIRST: False, MASK_MISSING: True}  # openpi's; its fork by Positronic has true and false
LENGTH, RECOMPUTES = "tokenizer_max_length", "gradient_checkpointing"
TOKENS = 200
VARIANTS = {True: ("gemma_2b_lora", "gemma_300m_lora"), False: ("gemma_2b", "gemma_300m")}


def fields(recipe: Recipe, policy: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the policy, by LeRobot's names where it has one.

    Raises PositronicError for a recipe that openpi cannot train, and for what does not reach it.
    """
    require_trainable(policy, recipe.modality_config)
    norm_stats_path(recipe)
    _cameras(recipe)
    taken = {"type": POLICY_TYPE, RECOMPUTES: True, LENGTH: TOKENS, **CONVENTIONS}
    for name, value in policy.items():
        if name not in taken or (name == RECOMPUTES and value is not True):
            raise PositronicError(
                f"vendor.policy.{name}={value} does not reach openpi, which takes {listing([LENGTH, *CONVENTIONS])}. "
                "Leave it out, or take vendor.backend=native."
            )
        if name in CONVENTIONS and not isinstance(value, bool):
            raise PositronicError(f"vendor.policy.{name}={value}: expected true or false.")
        if name == LENGTH and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise PositronicError(f"vendor.policy.{name}={value}: expected a number of tokens, 1 or more.")
    modality = recipe.modality_config
    language, expert = VARIANTS[modality.config_name == LORA]
    of_model = {"chunk_size": modality.action_chunk, "max_action_dim": MODEL_DIM}
    return taken | dict(policy) | of_model | {"paligemma_variant": language, "action_expert_variant": expert}


def spec(recipe: Recipe, policy: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """What a server needs; a training needs ``run`` beside it. ``policy``: as of ``fields``. ``dtype``: of the
    model's calculations."""
    cameras, numbers = _cameras(recipe), norm_stats(recipe)
    return {
        "name": recipe.modality_config.config_name,
        "repo_id": REPO_ID,
        "columns": {
            **{PLACES[place]: column for place, column in cameras.items()},
            keys.OPENPI_STATE: numbers.state,
            ACTIONS: numbers.action,
            keys.OPENPI_PROMPT: keys.OPENPI_PROMPT,
        },
        "images": {place: PLACES[place] for place in cameras},
        "state": keys.OPENPI_STATE,
        "delta_mask": list(delta_mask(recipe)),
        "action_size": len(delta_mask(recipe)),
        "pad_to": MODEL_DIM if policy[PAD_FIRST] else None,
        "mask_missing": policy[MASK_MISSING],
        "model": {
            "paligemma_variant": policy["paligemma_variant"],
            "action_expert_variant": policy["action_expert_variant"],
            "action_dim": MODEL_DIM,
            "action_horizon": policy["chunk_size"],
            "max_token_len": policy[LENGTH],
            "dtype": dtype,
        },
    }


def _cameras(recipe: Recipe) -> dict[str, str]:
    """Place in the model -> column, in the order of the policies that are trained in this process."""
    known = recipe.modality_config.cameras
    there = {column.name for column in recipe.modality.image_columns}
    columns = list(dict.fromkeys(known[role] for role in CAMERAS if known.get(role) in there))
    if not 0 < len(columns) <= len(PLACES):
        raise PositronicError(
            f"openpi's π0.5 has places for {len(PLACES)} cameras: expected 1 to {len(PLACES)}, found "
            f"{listing(columns)}. Type codec.images=[...]."
        )
    return dict(zip(PLACES, columns, strict=False))
