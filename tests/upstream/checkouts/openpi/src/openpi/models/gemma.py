"""Sizes of the language models, by variant."""

import dataclasses
from typing import Any, Literal

Variant = Literal["dummy", "gemma_300m", "gemma_300m_lora", "gemma_2b", "gemma_2b_lora"]


@dataclasses.dataclass
class Config:
    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    lora_configs: dict[str, Any] = dataclasses.field(default_factory=dict)


def get_config(variant: Variant) -> Config:
    lora = {"attn": {"rank": 16}, "ffn": {"rank": 16}} if variant.endswith("_lora") else {}
    if variant == "dummy":
        return Config(64, 4, 128, 8, 1, 16)
    if variant.startswith("gemma_300m"):
        return Config(1024, 18, 4096, 8, 1, 256, lora)
    return Config(2048, 18, 16384, 8, 1, 256, lora)
