"""Pretrained weights of π0.5 into a network, strictly: nothing missing, nothing left over, all of the same shape."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from positronic.errors import PositronicError, listing
from positronic.policies.weights import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, weight_files
from positronic.vendors.openpi.configs import POLICY_TYPE
from positronic.vendors.openpi.lora import merged_weight

PREFIX = "model."
NETWORK = f"{PREFIX}paligemma_with_expert."
EMBEDDING = f"{NETWORK}paligemma.model.language_model.embed_tokens.weight"
TIED = f"{NETWORK}paligemma.lm_head.weight"  # the embedding under its other name: files hold either, or both
UNUSED = (TIED, f"{NETWORK}gemma_expert.lm_head.weight")
LORA_A, LORA_B, WEIGHT = ".lora_a", ".lora_b", ".weight"
SHOWN = 4


def require_base(base: Path) -> None:
    """Raise PositronicError when the folder ``base`` is of another policy, or its weights are not there or damaged:
    before a network of their size is built."""
    _require_kind(base)
    with _reading(base) as file:
        found = _names(file)
    if EMBEDDING not in found:
        _require_same(base, {EMBEDDING}, set(found))


def load_base(policy: nn.Module, base: Path) -> None:
    """Copy the tensors in the folder ``base`` into ``policy``, in the types that it has.

    Adapters of a base go into those of ``policy``, or are added to the weights if it has none. A base without adapters
    leaves those of ``policy`` as they are.

    Raises PositronicError for a missing or damaged file, and tensors that do not fit.
    """
    own = policy.state_dict()
    with _reading(base) as file:
        found = _names(file)
        has_adapters = any(name.endswith(LORA_A) for name in found)
        merges = has_adapters and not any(name.endswith(LORA_A) for name in own)
        wanted = {name for name in own if has_adapters or not name.endswith((LORA_A, LORA_B))}
        _require_same(base, wanted, {name for name in found if not (merges and name.endswith((LORA_A, LORA_B)))})
        for name in sorted(wanted):
            tensor = file[found[name]].get_tensor(found[name])
            if merges and name.removesuffix(WEIGHT) + LORA_A in found:
                theirs = [found[name.removesuffix(WEIGHT) + end] for end in (LORA_A, LORA_B)]
                tensor = merged_weight(tensor, *(file[each].get_tensor(each) for each in theirs))
            _copy(base, name, tensor, own[name])


def _names(names: Any) -> dict[str, str]:
    """Name in the policy -> name in the file."""
    found = {name if name.startswith(PREFIX) else PREFIX + name: name for name in names}
    if EMBEDDING not in found and TIED in found:
        found[EMBEDDING] = found[TIED]
    return {name: theirs for name, theirs in found.items() if name not in UNUSED}


def _copy(base: Path, name: str, tensor: Tensor, own: Tensor) -> None:
    if tensor.shape != own.shape:
        raise PositronicError(
            f"vendor.base={base}: its '{name}' is {tuple(tensor.shape)}, and this policy's is {tuple(own.shape)}. "
            "Take weights of the same size, or leave out the vendor.policy values that change it."
        )
    with torch.no_grad():
        own.copy_(tensor)


def _require_kind(base: Path) -> None:
    """A config beside the weights says what they are."""
    path = base / CONFIG_FILE
    try:
        config: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        found = config.get("type", POLICY_TYPE)
    except (OSError, ValueError, AttributeError) as error:
        raise PositronicError(f"vendor.base: {path} cannot be read ({error}). Fetch it again.") from None
    if found != POLICY_TYPE:
        raise PositronicError(
            f"vendor.base={base} holds a policy of type {found}, and vendor=openpi trains {POLICY_TYPE}. Take weights "
            "of π0.5 in LeRobot's format, e.g. vendor.base=lerobot/pi05_base."
        )


def _require_same(base: Path, wanted: set[str], found: set[str]) -> None:
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    if missing or extra:
        sides = {"missing": missing, "unknown": extra}
        said = "; ".join(f"{what}: {listing(names, SHOWN)}" for what, names in sides.items() if names)
        raise PositronicError(
            f"vendor.base={base} does not hold the weights of this policy. {said}. "
            "Take weights of π0.5 in LeRobot's format, e.g. vendor.base=lerobot/pi05_base."
        )


@contextmanager
def _reading(base: Path) -> Iterator[dict[str, Any]]:
    """Name of a tensor -> the open file that holds it."""
    paths = weight_files(base)
    if not paths[0].is_file():
        raise PositronicError(
            f"vendor.base={base}: there is no {WEIGHTS_FILE}. Expected weights in LeRobot's format, in one file or in "
            f"several with {INDEX_FILE}."
        )
    with ExitStack() as files:
        found = {}
        for path in paths:
            try:
                file = files.enter_context(safe_open(path, "pt"))
            except (OSError, SafetensorError) as error:
                raise PositronicError(f"vendor.base: {path} cannot be read ({error}). Fetch it again.") from None
            found |= dict.fromkeys(file.keys(), file)
        yield found
