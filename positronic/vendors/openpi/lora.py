"""LoRA as openpi's ``lowmem`` configs train it.

Both language models, PaliGemma's and the action expert's, are frozen; every projection of their attention and MLPs has
an adapter, of rank 16 in the one and 32 in the other, and alpha equal to the rank, which makes the scale 1. The heads
of the queries have an adapter each. What is not a language model (vision tower, projector, the layers for actions and
time) is trained whole. Source: openpi, ``models/gemma.py``, ``models/lora.py`` and ``Pi0Config.get_freeze_filter``.

One thing differs: openpi draws both factors of an adapter at random, here the second one begins at 0, so that training
begins at the base's own predictions.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RANKS = {"paligemma.model.language_model": 16, "gemma_expert.model": 32}
PROJECTIONS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
PER_HEAD = "q_proj"
STD = 0.01


class Adapted(nn.Linear):
    """A linear layer with a low-rank term: W x + B A x. The weight keeps its name, type and values.

    ``lora_a`` (heads x rank, in), ``lora_b`` (heads, out / heads, rank), both float32.
    """

    def __init__(self, linear: nn.Linear, rank: int, heads: int = 1) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        device, rows = linear.weight.device, linear.out_features // heads
        self.lora_a = nn.Parameter(torch.empty(heads * rank, linear.in_features, device=device))
        self.lora_b = nn.Parameter(torch.zeros(heads, rows, rank, device=device))
        nn.init.normal_(self.lora_a, std=STD)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        heads, _, rank = self.lora_b.shape
        low = F.linear(x, self.lora_a.to(x.dtype)).unflatten(-1, (heads, rank))
        return super().forward(x) + torch.einsum("...hr,hor->...ho", low, self.lora_b.to(low.dtype)).flatten(-2)

    def merged(self) -> Tensor:
        """The weight (out, in) float32 of a linear layer that computes the same."""
        return merged_weight(self.weight, self.lora_a, self.lora_b)


def merged_weight(weight: Tensor, lora_a: Tensor, lora_b: Tensor) -> Tensor:
    """Weight and adapter as one weight (out, in), float32: in bfloat16 the sum would lose most of the adapter."""
    heads, rows, rank = lora_b.shape
    return weight.float() + (lora_b @ lora_a.view(heads, rank, -1)).reshape(heads * rows, -1)


def add_adapters(network: nn.Module) -> None:
    """Freeze both language models of a ``PaliGemmaWithExpertModel`` and put adapters into them."""
    for path, rank in RANKS.items():
        language_model = network.get_submodule(path)
        language_model.requires_grad_(False)
        for parent, name in _projections(language_model):
            heads = parent.config.num_attention_heads if name == PER_HEAD else 1
            setattr(parent, name, Adapted(getattr(parent, name), rank, heads))


def merge_adapters(network: nn.Module) -> None:
    """Put plain linear layers, in float32, where ``add_adapters`` put adapters."""
    for path in RANKS:
        for parent, name in _projections(network.get_submodule(path)):
            adapted = getattr(parent, name)
            plain = nn.Linear(adapted.in_features, adapted.out_features, adapted.bias is not None, device="meta")
            plain.weight, plain.bias = nn.Parameter(adapted.merged().detach()), adapted.bias
            setattr(parent, name, plain)


def _projections(language_model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The linear layers of all layers, as (parent, name)."""
    for layer in language_model.layers:
        for part, names in PROJECTIONS.items():
            yield from ((layer.get_submodule(part), name) for name in names)
