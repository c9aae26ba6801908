"""LeRobot's policies, trained and run in this process."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch

from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.policies import backbones, library
from positronic.policies.config import make_config
from positronic.policies.floors import floored
from positronic.policies.model import PolicyModel
from positronic.policies.steps import Steps, shapes_of, stats_of, task_step
from positronic.policies.trainable import Parts, PolicyTrainable, tensors
from positronic.policies.weights import load_config, load_weights
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device
from positronic.training.trainable import PolicySpec

BACKBONE_WEIGHTS = "pretrained_backbone_weights"
# Policies that read the task; from the others it is kept away.
LANGUAGE_CONDITIONED = frozenset(
    {"eo1", "evo1", "groot", "molmoact2", "pi0", "pi05", "pi0_fast", "smolvla", "wall_x", "xvla"}
)


def steps_of(recipe: Recipe, policy_type: str) -> Steps:
    """Columns have LeRobot's own names already; the instruction takes its own, or is kept away."""
    return [task_step(recipe.modality, policy_type in LANGUAGE_CONDITIONED)]


def config_of(recipe: Recipe, policy: Mapping[str, Any], device: str) -> Any:
    """lerobot's config. Raises PositronicError when ``policy`` is not what its class takes, or cannot be trained."""
    shapes = shapes_of(steps_of(recipe, str(policy.get(library.TYPE))), recipe.modality)
    config = make_config(policy, shapes, recipe.codec.name, device)
    _refuse_unsupported(config)
    return config


def check_policy(recipe: Recipe, policy: Mapping[str, Any]) -> None:
    """Raise PositronicError when ``policy`` is not what lerobot's config class takes, or cannot be trained here."""
    config_of(recipe, policy, "cpu")


def make_trainable(spec: PolicySpec) -> PolicyTrainable:
    """A new policy. Raises PositronicError when ``spec.policy`` is not what lerobot's config class takes."""
    if spec.base is not None:
        raise PositronicError(f"vendor.base={spec.base}: vendor=lerobot starts from random weights. Leave it out.")
    config, recipe = config_of(spec.recipe, spec.policy, spec.device), spec.recipe
    steps = steps_of(recipe, config.type)
    stats = stats_of(steps, floored(recipe.modality.columns, spec.stats))
    before, after = library.make_processors(config, tensors(stats))
    module = _on_device(_build(config), spec.device)
    parts = Parts(config, module, before, after, steps, config.type in LANGUAGE_CONDITIONED)

    def write(folder: Path) -> None:
        """lerobot's own layout, which its ``from_pretrained`` reads."""
        _without_download(copy(config)).save_pretrained(folder)
        before.save_pretrained(folder)
        after.save_pretrained(folder)

    return PolicyTrainable(parts, write)


def load_model(checkpoint: Path, device: str) -> PolicyModel:
    """The policy in a checkpoint's folder, on ``device``, in float32.

    Raises PositronicError when the checkpoint is not whole, or is of a policy that this lerobot does not know.
    """
    recipe, folder = trained_recipe(read_info(checkpoint)), checkpoint / PRETRAINED_MODEL
    device = resolve_device(device)
    config = _without_download(load_config(folder, device))
    policy = _on_device(_build(config), device)
    load_weights(policy, folder, device)
    before, after = library.load_processors(folder, device)
    steps = steps_of(recipe, config.type)
    parts = Parts(config, policy.eval(), before, after, steps, config.type in LANGUAGE_CONDITIONED)
    return PolicyModel(parts, lambda seen, noise: policy.predict_action_chunk(seen), recipe, device)


def _without_download(config: Any) -> Any:
    """Weights that training started from are in the checkpoint, and must not be downloaded again."""
    if hasattr(config, BACKBONE_WEIGHTS):
        setattr(config, BACKBONE_WEIGHTS, None)
    return config


def _on_device(policy: Any, device: str) -> Any:
    """Kernels laid out channels last, as the images are: a fifth faster on a CPU."""
    return policy.to(device, memory_format=torch.channels_last)


def _build(config: Any) -> Any:
    backbones.register()
    try:
        return library.policy_class(config.type)(config)
    except OSError as error:  # no network: backbone weights that have to be downloaded
        name = getattr(config, BACKBONE_WEIGHTS, None)
        raise PositronicError(
            f"The weights '{name}' could not be downloaded ({error}). "
            f"Take vendor.policy.{BACKBONE_WEIGHTS}=null to start from random ones."
        ) from None
    except (ValueError, TypeError, NotImplementedError, AssertionError, RuntimeError, AttributeError) as error:
        raise PositronicError(
            f"vendor.policy: LeRobot's '{config.type}' cannot be built with these values: {error}"
        ) from None


def _refuse_unsupported(config: Any) -> None:
    seen = config.observation_delta_indices
    if config.type in library.KEEP_HISTORY or config.action_delta_indices is None or list(seen or [0]) != [0]:
        raise library.no_history(config.type)
