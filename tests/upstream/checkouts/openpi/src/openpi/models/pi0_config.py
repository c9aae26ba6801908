"""π0 and π0.5: fields and defaults of 15a9616."""

import dataclasses
from typing import Any

from flax import nnx

import openpi.models.gemma as _gemma
import openpi.models.model as _model
import openpi.shared.nnx_utils as nnx_utils

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


@dataclasses.dataclass(frozen=True)
class Pi0Config(_model.BaseModelConfig):
    dtype: str = "bfloat16"
    paligemma_variant: _gemma.Variant = "gemma_2b"
    action_expert_variant: _gemma.Variant = "gemma_300m"
    action_dim: int = 32
    action_horizon: int = 50
    max_token_len: int = None  # type: ignore
    pi05: bool = False
    discrete_state_input: bool = None  # type: ignore
    pytorch_compile_mode: str | None = "max-autotune"

    def __post_init__(self) -> None:
        if self.max_token_len is None:
            object.__setattr__(self, "max_token_len", 200 if self.pi05 else 48)
        if self.discrete_state_input is None:
            object.__setattr__(self, "discrete_state_input", self.pi05)
        assert self.pytorch_compile_mode in (None, *COMPILE_MODES)

    @property
    def model_type(self) -> _model.ModelType:
        return _model.ModelType.PI05 if self.pi05 else _model.ModelType.PI0

    def get_freeze_filter(self) -> Any:
        """Which weights stay as they are: those of a language model with adapters, but for the adapters."""
        is_lora = ["lora" in each for each in (self.paligemma_variant, self.action_expert_variant)]
        if not any(is_lora):
            return nnx.Nothing
        expert = nnx_utils.PathRegex(".*llm.*_1.*")
        filters = [nnx_utils.PathRegex(".*llm.*") if is_lora[0] else expert]
        if is_lora == [True, False]:
            filters.append(nnx.Not(expert))
        return nnx.All(*filters, nnx.Not(nnx_utils.PathRegex(".*lora.*")))
