"""From ``vendor.policy`` and what a policy sees to lerobot's own policy config, checked by lerobot's own class."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

import draccus
from draccus.utils import DecodingError, ParsingError

from positronic import keys
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.policies import library
from positronic.training.settings import SAID_ABOVE

Shapes = Mapping[str, tuple[int, ...]]
"""What a policy sees and does, by lerobot's keys: vectors (D,), images (H, W, 3)."""

# Fields of lerobot's that have their place elsewhere here: one place per value.
ELSEWHERE = {
    "input_features": "the codec and modality say what a policy sees",
    "output_features": "the codec says what a policy does",
    "device": "say device=...",
    "use_amp": "say precision=bf16",
    "use_bf16": "say precision=bf16",
    "base_model_path": "say vendor.base=...",
    **{name: f"say {ours}" for name, ours in SAID_ABOVE.items()},
    "push_to_hub": "checkpoints stay in output_dir",
    "repo_id": "checkpoints stay in output_dir",
    "pretrained_path": "training starts from the weights of the policy's own config",
}


def make_config(policy: Mapping[str, Any], shapes: Shapes, codec: str, device: str) -> Any:
    """lerobot's config for ``policy`` (its ``type`` names the class), which sees ``shapes`` of a codec.

    Raises PositronicError for an unknown type or field, a value of the wrong type, or inputs that lerobot cannot read.
    """
    policy_type = policy.get(library.TYPE)
    config_class = library.config_class(policy_type)
    fields = {name: value for name, value in policy.items() if name != library.TYPE}
    _check_fields(config_class, fields)
    config = _decode(config_class, fields | {"device": device, "push_to_hub": False})
    features = {name: _feature(name, shape) for name, shape in shapes.items()}
    config.output_features = {keys.LEROBOT_ACTION: features.pop(keys.LEROBOT_ACTION)}
    config.input_features = features
    try:
        config.validate_features()
    except ValueError as error:
        raise PositronicError(f"LeRobot's policy '{policy_type}' refuses codec '{codec}': {error}") from None
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


def _feature(name: str, shape: tuple[int, ...]) -> Any:
    from lerobot.configs.types import FeatureType, PolicyFeature

    if name.startswith(keys.LEROBOT_IMAGES) and len(shape) == 3:
        height, width, channels = shape
        return PolicyFeature(FeatureType.VISUAL, (channels, height, width))
    kinds = {keys.LEROBOT_STATE: FeatureType.STATE, keys.LEROBOT_ACTION: FeatureType.ACTION}
    if name in kinds and len(shape) == 1:
        return PolicyFeature(kinds[name], shape)
    raise PositronicError(
        f"Modality column '{name}': LeRobot's policies read '{keys.LEROBOT_STATE}', '{keys.LEROBOT_ACTION}' "
        f"and '{keys.LEROBOT_IMAGES}<camera>'."
    )
