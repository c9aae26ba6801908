"""LeRobot's policies, trained and run in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from positronic.bake.reader import Stats
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device, to_device
from positronic.training.floors import floored
from positronic.training.trainable import ParameterGroup
from positronic.vendors.lerobot import backbones, library
from positronic.vendors.lerobot.policy_config import described, make_config

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
BACKBONE_WEIGHTS = "pretrained_backbone_weights"

# Policies that read the task; from the others it is kept away.
LANGUAGE_CONDITIONED = frozenset(
    {"eo1", "evo1", "groot", "molmoact2", "pi0", "pi05", "pi0_fast", "smolvla", "wall_x", "xvla"}
)


class LerobotTrainable:
    """A policy of lerobot's with its processors, as the training loop wants it."""

    def __init__(self, recipe: Recipe, stats: Stats, policy: Mapping[str, Any], device: str) -> None:
        self._config = make_config(recipe, policy, device)
        _refuse_unsupported(self._config)
        # Kernels laid out channels last, as the images are: a fifth faster on a CPU.
        self.module = _build(self._config).to(device, memory_format=torch.channels_last)
        self._before, self._after = library.make_processors(
            self._config, _tensors(floored(recipe.modality.columns, stats))
        )
        self.action_offsets = np.asarray(self._config.action_delta_indices, np.int64)
        self.with_task = self._config.type in LANGUAGE_CONDITIONED
        self.fields = described(self._config)

    def groups(self) -> list[ParameterGroup]:
        """What is trained, at lerobot's own learning rates."""
        preset = self._config.get_optimizer_preset().lr
        given = self.module.get_optim_params()
        groups = given if isinstance(given, list) and isinstance(given[0], dict) else [{"params": given}]
        return [ParameterGroup(tuple(group["params"]), group.get("lr", preset)) for group in groups]

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Columns on the device -> lerobot's own loss, a scalar."""
        return self.module(self._before(dict(batch)))[0]

    def save(self, folder: Path) -> None:
        """lerobot's own layout, which its ``from_pretrained`` reads."""
        config = copy(self._config)
        if getattr(config, BACKBONE_WEIGHTS, None) is not None:
            setattr(config, BACKBONE_WEIGHTS, None)  # they are in the weights now, and must not be downloaded again
        config.save_pretrained(folder)
        safetensors.torch.save_model(self.module, str(folder / WEIGHTS_FILE))
        self._before.save_pretrained(folder)
        self._after.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Take back the weights that ``save`` wrote."""
        safetensors.torch.load_model(self.module, str(folder / WEIGHTS_FILE), strict=True)


class LerobotModel:
    """A trained policy that answers many observations at a time. Nothing is kept between calls."""

    def __init__(self, policy: Any, before: Any, after: Any, recipe: Recipe, device: str) -> None:
        self._policy, self._before, self._after = policy, before, after
        self._columns = recipe.modality.observation_columns
        self._task_key = recipe.modality.task_key if policy.config.type in LANGUAGE_CONDITIONED else None
        self._device = device

    def predict(self, observations: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float32]]:
        """Columns of each observation -> a chunk (H, A) float32 each, unnormalised, from one forward pass.

        Raises PositronicError when a column is missing or has another shape than the policy was trained with.
        """
        if not observations:
            return []
        batch: dict[str, Any] = {column.name: self._stack(column, observations) for column in self._columns}
        if self._task_key:
            batch[self._task_key] = [str(observation.get(self._task_key, "")) for observation in observations]
        with torch.inference_mode():
            actions = self._after(self._policy.predict_action_chunk(self._before(to_device(batch, self._device))))
        return list(actions.float().cpu().numpy())

    def _stack(self, column: Any, observations: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
        for observation in observations:
            found = np.shape(observation[column.name]) if column.name in observation else "nothing"
            if found != column.shape:
                raise PositronicError(f"Observation column '{column.name}': expected {column.shape}, found {found}.")
        return np.stack([np.asarray(observation[column.name], column.dtype) for observation in observations])


def check_policy(recipe: Recipe, policy: Mapping[str, Any]) -> None:
    """Raise PositronicError when ``policy`` is not what lerobot's config class takes, or cannot be trained here."""
    _refuse_unsupported(make_config(recipe, policy, "cpu"))


def make_trainable(recipe: Recipe, stats: Stats, policy: Mapping[str, Any], device: str) -> LerobotTrainable:
    """A new policy. Raises PositronicError when ``policy`` is not what lerobot's config class takes."""
    return LerobotTrainable(recipe, stats, policy, device)


def load_model(checkpoint: Path, device: str) -> LerobotModel:
    """The policy in a checkpoint's folder, on ``device``, in float32.

    Raises PositronicError when the checkpoint is not whole, or is of a policy that this lerobot does not know.
    """
    info, folder, device = read_info(checkpoint), checkpoint / PRETRAINED_MODEL, resolve_device(device)
    config = _load_config(folder, device)
    policy = _build(config).to(device, memory_format=torch.channels_last)
    _load_weights(policy, folder / WEIGHTS_FILE, device)
    before, after = library.load_processors(folder, device)
    return LerobotModel(policy.eval(), before, after, trained_recipe(info), device)


def _tensors(stats: Stats) -> dict[str, dict[str, Tensor]]:
    return {
        name: {key: torch.as_tensor(np.asarray(value), dtype=torch.float32) for key, value in values.items()}
        for name, values in stats.items()
    }


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


def _load_config(folder: Path, device: str) -> Any:
    path = folder / CONFIG_FILE
    try:
        policy_type = json.loads(path.read_text())["type"]
    except (OSError, ValueError, KeyError) as error:
        raise PositronicError(f"{path} cannot be read ({error!r}). Use another checkpoint.") from None
    library.config_class(policy_type)  # registers it
    from lerobot.configs.policies import PreTrainedConfig

    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=[f"--device={device}"])
    if hasattr(config, BACKBONE_WEIGHTS):
        setattr(config, BACKBONE_WEIGHTS, None)
    return config


def _load_weights(policy: Any, path: Path, device: str) -> None:
    try:
        safetensors.torch.load_model(policy, str(path), strict=True, device=device)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise PositronicError(f"{path} cannot be loaded ({error}). Use another checkpoint.") from None


def _refuse_unsupported(config: Any) -> None:
    seen = config.observation_delta_indices
    if config.type in library.KEEP_HISTORY or config.action_delta_indices is None or list(seen or [0]) != [0]:
        raise library.no_history(config.type)
