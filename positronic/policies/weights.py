"""A policy's config and weights in a checkpoint's folder, loaded strictly: nothing missing, nothing left over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn
from torch.overrides import TorchFunctionMode

from positronic.errors import PositronicError
from positronic.policies import library

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def save_weights(module: nn.Module, folder: Path) -> None:
    """All tensors of ``module`` into the existing ``folder``."""
    safetensors.torch.save_model(module, str(folder / WEIGHTS_FILE))


def load_weights(module: nn.Module, folder: Path, device: str = "cpu") -> None:
    """Take the tensors from ``folder``. Raises PositronicError for a damaged file and for other tensors."""
    path = folder / WEIGHTS_FILE
    try:
        safetensors.torch.load_model(module, str(path), strict=True, device=device)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise PositronicError(f"{path} cannot be loaded ({error}). Use another checkpoint.") from None


class Unfilled(TorchFunctionMode):
    """Inside, functions of torch.nn.init do nothing, for weights that are loaded next: drawing those of a policy with
    billions takes minutes."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


@dataclass(frozen=True)
class Weights:
    """How a policy's weights are written into a checkpoint's folder, and taken from it."""

    save: Callable[[nn.Module, Path], None] = save_weights
    load: Callable[[nn.Module, Path], None] = load_weights


def load_config(folder: Path, device: str) -> Any:
    """lerobot's config that a checkpoint was written with. Raises PositronicError for one that cannot be read."""
    path = folder / CONFIG_FILE
    try:
        policy_type = json.loads(path.read_text())[library.TYPE]
    except (OSError, ValueError, KeyError) as error:
        raise PositronicError(f"{path} cannot be read ({error!r}). Use another checkpoint.") from None
    library.config_class(policy_type)  # registers it
    from lerobot.configs.policies import PreTrainedConfig

    return PreTrainedConfig.from_pretrained(folder, cli_overrides=[f"--device={device}"])
