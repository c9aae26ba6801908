"""π0.5's network: built at its size or as a toy, without the weights that it never uses."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from positronic.errors import PositronicError
from positronic.policies import library
from positronic.policies.weights import Unfilled
from positronic.vendors.openpi.lora import RANKS, add_adapters
from positronic.vendors.openpi.toy import Toy, built_at

BF16 = "bfloat16"
HEADS = ("paligemma", "gemma_expert")  # whose lm_head predicts words: 790 M parameters without use or gradient
NORMS = ("layernorm", "norm")


def build(config: Any, toy: Toy | None, lora: bool, filled: bool = True) -> Any:
    """A new policy on the CPU. ``lora``: its language models are frozen and have adapters, which change nothing yet.
    ``filled``: with random weights, otherwise with whatever is in memory, for weights that are loaded next.

    Raises PositronicError for values that lerobot cannot build.
    """
    library.config_class(config.type)
    build_policy = library.policy_class(config.type)
    try:
        with built_at(toy), nullcontext() if filled else Unfilled():
            policy = build_policy(replace(config, dtype="float32", device="cpu"))
            network = policy.model.paligemma_with_expert
            for name in HEADS:
                getattr(network, name).lm_head = None
            if config.dtype == BF16:
                _halve(network)
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        raise PositronicError(f"vendor.policy: π0.5 cannot be built with these values: {error}") from None
    if lora:
        add_adapters(network)
    policy.config = config
    return policy


def _halve(network: nn.Module) -> None:
    """The weights of both language models in bfloat16. Norms stay, and so do the frequencies of the rotary positions,
    which lerobot's own ``dtype`` rounds as well: a word at place 800 would be turned by a radian too much."""
    for path in RANKS:
        for name, parameter in network.get_submodule(path).named_parameters():
            if not any(part.endswith(NORMS) for part in name.split(".")):
                parameter.data = parameter.data.to(torch.bfloat16)
