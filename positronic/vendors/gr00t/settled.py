"""What lerobot's GrootConfig is not asked: fields that have another place here or do nothing there, and the horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from positronic.errors import PositronicError, listing

MAX_STEPS = 40  # of a chunk, which GR00T N1.7 was pretrained with
POLICY_TYPE = "groot"  # lerobot's name
TUNED = ("tune_llm", "tune_visual", "tune_projector", "tune_diffusion_model", "tune_vlln", "tune_top_llm_layers")
SETTLED = {
    "n_obs_steps": "GR00T predicts from one observation",
    "chunk_size": "say modality.action_chunk=...",
    "n_action_steps": "say modality.action_chunk=..., and modality.action_horizon_sec=... for what is played of it",
    "max_state_dim": "the weights in vendor.base say it",
    "max_action_dim": "the weights in vendor.base say it",
    "normalization_mapping": "GR00T normalises to -1..1 by the statistics beside its weights",
    "base_model_path": "say vendor.base=...",
    "action_decode_transform": "the codec says what an action means",
    "embodiment_tag": "every robot here is new to GR00T",
    "rtc_ramp_rate": "a chunk here starts from noise alone",
    "use_relative_actions": "choose a codec, e.g. codec=ee_rot6d_joints_rel",
    "relative_exclude_joints": "a gripper is never relative here, the arm is if the codec says so",
    "use_bf16": "say precision=bf16",
    "model_params_fp32": "weights are kept in fp32 here; for what is computed in bf16, say precision=bf16",
    **dict.fromkeys(
        (
            "image_size",
            "tokenizer_assets_repo",
            "lora_rank",
            "lora_alpha",
            "lora_dropout",
            "lora_full_model",
            "video_backend",
            "balance_dataset_weights",
            "balance_trajectory_weights",
            "dataset_paths",
            "output_dir",
            "save_steps",
            "max_steps",
            "batch_size",
            "dataloader_num_workers",
            "report_to",
            "resume",
        ),
        "LeRobot keeps it for old files and does not read it",
    ),
}


def require_trainable(policy: Mapping[str, Any], modality: Any) -> None:
    """Raise PositronicError when a field is said that has another place, the policy is another vendor's, nothing
    would be trained, or ``modality`` asks for more steps than GR00T predicts."""
    for name in policy:
        if name in SETTLED:
            raise PositronicError(f"vendor.policy.{name} cannot be set with vendor=gr00t: {SETTLED[name]}.")
    found = policy.get("type", POLICY_TYPE)
    if found != POLICY_TYPE:
        raise PositronicError(f"vendor.policy.type={found}: vendor=gr00t trains {POLICY_TYPE} alone. Leave it out.")
    denoising = policy.get("num_inference_timesteps")
    if isinstance(denoising, int) and denoising < 1:
        raise PositronicError(
            f"vendor.policy.num_inference_timesteps={denoising}: expected 1 or more. Without "
            "denoising steps a chunk would be the noise that it starts from."
        )
    if all(policy.get(name) in (False, 0) for name in TUNED):
        raise PositronicError(f"Nothing would be trained: one of {listing(TUNED)} of vendor.policy must be on.")
    require_horizon(modality.action_chunk)


def require_horizon(steps: int | None) -> None:
    """Raise PositronicError when GR00T N1.7 does not predict so many steps."""
    if steps is None or steps > MAX_STEPS:
        raise PositronicError(
            f"modality.action_chunk={steps}: GR00T N1.7 predicts 1 to {MAX_STEPS} steps at once. Type "
            f"modality.action_chunk={MAX_STEPS} or less."
        )
