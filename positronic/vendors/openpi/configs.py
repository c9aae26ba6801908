"""openpi's training configs by name, and what each of them trains. Nothing heavy is imported here.

The names are those of Positronic's fork of openpi. ``_lowmem`` is openpi's word for LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from positronic.errors import PositronicError, did_you_mean

LORA = "pi05_positronic_lowmem"
FULL = "pi05_positronic"
POLICY_TYPE = "pi05"
EXPERT_ONLY = "train_expert_only"
# Places of cameras in openpi's pretraining, by the roles of conf/modality/openpi. A camera that is missing is left out:
# openpi masks it, and what is masked has no influence on anything (a test compares the two).
CAMERAS = ("exterior", "wrist", "left_wrist", "right_wrist")

# Fields of lerobot's that follow from something else here: one place per value.
ELSEWHERE = {
    "chunk_size": "say modality.action_chunk=... in stage=convert and here: statistics are over its steps",
    "n_action_steps": "say modality.action_horizon_sec=...",
    "use_relative_actions": "openpi's actions are relative to the state",
    "relative_exclude_joints": "arms are relative to the state, grippers are not",
    "action_feature_names": "the codec says what a policy does",
    "dtype": "say precision=...",
    "n_obs_steps": "π0.5 predicts from one observation",
    "max_state_dim": "π0.5 reads the state as text, as many numbers as there are",
    "max_action_dim": "the weights in vendor.base say it",
}


def require_trainable(policy: Mapping[str, Any], modality: Any) -> None:
    """Raise PositronicError when ``policy`` is not π0.5, or ``modality.config_name`` is none that trains it."""
    found = policy.get("type")
    if found != POLICY_TYPE:
        raise PositronicError(
            f"vendor.policy.type={found}: vendor=openpi trains {POLICY_TYPE} alone. Leave it out, or type "
            "vendor=lerobot."
        )
    for name, reason in ELSEWHERE.items():
        if name in policy:
            raise PositronicError(f"vendor.policy.{name} cannot be set with vendor=openpi: {reason}.")
    denoising = policy.get("num_inference_steps")
    if isinstance(denoising, int) and denoising < 1:
        raise PositronicError(
            f"vendor.policy.num_inference_steps={denoising}: expected 1 or more. Without denoising steps a chunk would "
            "be the noise that it starts from."
        )
    name = modality.config_name
    if name not in (LORA, FULL):
        raise PositronicError(
            f"modality.config_name={name}: expected {LORA} (LoRA) or {FULL} (all weights; with "
            f"vendor.policy.{EXPERT_ONLY}=true the action expert alone).{did_you_mean(str(name), (LORA, FULL))}"
        )
    if name == LORA and policy.get(EXPERT_ONLY):
        raise PositronicError(
            f"vendor.policy.{EXPERT_ONLY}=true: modality.config_name={LORA} trains adapters of both language models. "
            f"Type modality.config_name={FULL} to train the action expert alone."
        )
