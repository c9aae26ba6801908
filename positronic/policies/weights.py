"""A policy's config and weights in a checkpoint's folder, loaded strictly: nothing missing, nothing left over."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn
from torch.overrides import TorchFunctionMode

from positronic.errors import PositronicError, listing
from positronic.policies import library

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = f"{WEIGHTS_FILE}.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the tensors in ``folder``: one, or those that an index lists, as large ones are published.

    Raises PositronicError when the index cannot be read or one of them is missing.
    """
    index = folder / INDEX_FILE
    if not index.exists():
        return [folder / WEIGHTS_FILE]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        found = [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PositronicError(f"{index} cannot be read ({error!r}). Fetch it again.") from None
    missing = [path.name for path in found if not path.is_file()]
    if missing or not found:
        raise PositronicError(
            f"{folder} is not whole: {INDEX_FILE} lists {listing(names)}, and {listing(missing)} is missing. Fetch it "
            "again."
        )
    return found


def save_weights(module: nn.Module, folder: Path) -> None:
    """All tensors of ``module`` into the existing ``folder``."""
    safetensors.torch.save_model(module, str(folder / WEIGHTS_FILE))


def load_weights(module: nn.Module, folder: Path, device: str = "cpu") -> None:
    """Take the tensors from ``folder``. Raises PositronicError for a damaged file and for other tensors."""
    files = weight_files(folder)
    try:
        if len(files) == 1:
            safetensors.torch.load_model(module, str(files[0]), strict=True, device=device)
        else:
            _load_parts(module, files, device)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        where = files[0] if len(files) == 1 else folder
        raise PositronicError(f"{where} cannot be loaded ({error}). Use another checkpoint.") from None


def _load_parts(module: nn.Module, files: Sequence[Path], device: str) -> None:
    """As ``safetensors.torch.load_model`` does it with one file: of names for one tensor, one is enough."""
    found = {name: tensor for path in files for name, tensor in safetensors.torch.load_file(path, device).items()}
    own = module.state_dict()
    taken = {own[name].data_ptr() for name in found if name in own}
    missing, unknown = module.load_state_dict(found, strict=False)
    missing = [name for name in missing if own[name].data_ptr() not in taken]
    if missing or unknown:
        sides = {"missing": missing, "unknown": unknown}
        raise RuntimeError("; ".join(f"{what}: {listing(names)}" for what, names in sides.items() if names))


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
