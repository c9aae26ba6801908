"""From ``vendor.policy`` and a recipe to lerobot's own policy config, checked by lerobot's own class."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

import draccus
from draccus.utils import DecodingError, ParsingError

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.codecs.modality import Column
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.vendors.lerobot import library

# Fields of lerobot's that have their place elsewhere here: one place per value.
ELSEWHERE = {
    "input_features": "the codec and modality say what a policy sees",
    "output_features": "the codec says what a policy does",
    "device": "say device=...",
    "use_amp": "say precision=bf16",
    "optimizer_weight_decay": "say weight_decay=...",
    "push_to_hub": "checkpoints stay in output_dir",
    "repo_id": "checkpoints stay in output_dir",
    "pretrained_path": "training starts from the weights of the policy's own config",
}


def make_config(recipe: Recipe, policy: Mapping[str, Any], device: str) -> Any:
    """lerobot's config for ``policy`` (its ``type`` names the class) on the columns of ``recipe``.

    Raises PositronicError for an unknown type or field, a value of the wrong type, or columns that lerobot cannot read.
    """
    policy_type = policy.get(library.TYPE)
    config_class = library.config_class(policy_type)
    fields = {name: value for name, value in policy.items() if name != library.TYPE}
    _check_fields(config_class, fields)
    config = _decode(config_class, fields | {"device": device, "push_to_hub": False})
    config.input_features, config.output_features = _features(recipe)
    try:
        config.validate_features()
    except ValueError as error:
        raise PositronicError(
            f"LeRobot's policy '{policy_type}' refuses codec '{recipe.codec.name}': {error}"
        ) from None
    return config


def described(config: Any) -> dict[str, Any]:
    """Every resolved field as JSON gives it back, except those that have their place elsewhere."""
    fields = json.loads(json.dumps(draccus.encode(config)))
    return {library.TYPE: config.type} | {name: value for name, value in fields.items() if name not in ELSEWHERE}


def _check_fields(config_class: type, fields: Mapping[str, Any]) -> None:
    hints = typing.get_type_hints(config_class)
    known = [field.name for field in dataclasses.fields(config_class) if field.init and field.name not in ELSEWHERE]
    for name, value in fields.items():
        if name in ELSEWHERE:
            raise PositronicError(f"vendor.policy.{name} cannot be set: {ELSEWHERE[name]}.")
        if name not in known:
            hint = did_you_mean(name, known)
            raise PositronicError(
                f"vendor.policy.{name}: {config_class.__name__} has no such field.{hint} It has: {listing(known, 60)}."
            )
        if value is None and type(None) not in typing.get_args(hints[name]):
            raise PositronicError(f"vendor.policy.{name}: expected {_type_name(hints[name])}, found null.")


def _decode(config_class: type, fields: dict[str, Any]) -> Any:
    try:
        return draccus.decode(config_class, fields)
    except DecodingError as error:
        name = str(error).split("`")[1] if "`" in str(error) else ""
        expected = _type_name(typing.get_type_hints(config_class).get(name))
        raise PositronicError(f"vendor.policy.{name}: expected {expected}, found {fields.get(name)!r}.") from None
    except (ParsingError, ValueError, TypeError, NotImplementedError) as error:
        reason = error.__cause__ or error
        raise PositronicError(f"vendor.policy: {config_class.__name__} refuses these values: {reason}") from None


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _features(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs = {column.name: _feature(column) for column in recipe.modality.observation_columns}
    action = recipe.modality.action_column
    return inputs, {action.name: _feature(action)}


def _feature(column: Column) -> Any:
    from lerobot.configs.types import FeatureType, PolicyFeature

    if column.is_image and column.name.startswith(keys.LEROBOT_IMAGES):
        height, width, channels = column.shape
        return PolicyFeature(FeatureType.VISUAL, (channels, height, width))
    if column.name == keys.LEROBOT_STATE and not column.is_image:
        return PolicyFeature(FeatureType.STATE, column.shape)
    if column.name == keys.LEROBOT_ACTION and column.is_action:
        return PolicyFeature(FeatureType.ACTION, column.shape)
    raise PositronicError(
        f"Modality column '{column.name}': LeRobot's policies read '{keys.LEROBOT_STATE}', '{keys.LEROBOT_ACTION}' "
        f"and '{keys.LEROBOT_IMAGES}<camera>'."
    )
