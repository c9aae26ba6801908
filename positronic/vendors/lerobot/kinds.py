"""What is particular to a type of lerobot's policies: what it reads, where its chunk starts, what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from positronic import keys
from positronic.policies.trainable import PartLoss
from positronic.training.noise import Part

Act = Callable[[Any, dict[str, Any], Tensor | None], Tensor]
"""A policy, a preprocessed batch and noise -> chunks (B, H, A), normalised."""


def _predict(policy: Any, seen: dict[str, Any], noise: Tensor | None) -> Tensor:
    return policy.predict_action_chunk(seen) if noise is None else policy.predict_action_chunk(seen, noise=noise)


@dataclass(frozen=True)
class OneStep:
    """State (B, D) as (B, 1, D), for policies that take several steps of observation, of which there is one. Images
    (B, C, H, W) likewise if ``images`` says so."""

    images: bool = False

    def __call__(self, values: Mapping[str, Any], join: Any) -> dict[str, Any]:
        return {name: v.unsqueeze(1) if self._is_meant(name, v) else v for name, v in values.items()}

    def _is_meant(self, name: str, value: Any) -> bool:
        is_image = self.images and name.startswith(keys.LEROBOT_IMAGES)
        return isinstance(value, Tensor) and (is_image or name == keys.LEROBOT_STATE)


@dataclass(frozen=True)
class Inside:
    """A folder of a checkpoint with what a policy would otherwise fetch from the Hugging Face hub.

    ``name``: of the folder. ``classes``: transformers' classes that read from the hub what has to be in it. ``field``:
    the config's field with the name on the hub, or of a folder. ``published``: that name where LeRobot has fixed it.
    ``tokenizer``: whether the preprocessor's tokenizer is in it.
    """

    name: str
    classes: tuple[str, ...]
    field: str | None = None
    published: str | None = None
    tokenizer: bool = True

    def source(self, config: Any) -> str:
        """What is read: a name on the hub, or a folder."""
        return self.published if self.field is None else getattr(config, self.field)


@dataclass(frozen=True)
class Kind:
    """``reads_task``: it is language-conditioned. ``step``: its observation is of one step, (B, 1, ...). ``noise``: its
    config -> the shape of the random numbers that a chunk starts from; None draws none, or cannot be given any.
    ``real_steps``: its config -> whether its loss is a mean over the steps inside episodes alone, not over all.
    ``part_loss``: of a loss that is neither. ``needs``: values without which robots cannot share it, or padding would
    count. ``inside``: what its checkpoint holds beside weights and processors. ``weights``: classes that fetch weights
    while the policy is built, by their names in its module. ``horizon``: the field that says how many steps are
    predicted. ``lacks``: what is said when it is trained.
    """

    reads_task: bool = False
    step: OneStep | None = None
    noise: Callable[[Any], tuple[int, int]] | None = None
    real_steps: Callable[[Any], bool] = lambda config: False
    part_loss: PartLoss | None = None
    needs: Mapping[str, Any] = field(default_factory=dict)
    inside: tuple[Inside, ...] = ()
    weights: tuple[str, ...] = ()
    act: Act = _predict
    horizon: str = "chunk_size"
    lacks: str | None = None


def _action_size(config: Any) -> int:
    return config.output_features[keys.LEROBOT_ACTION].shape[0]


def _masks(config: Any) -> bool:
    return config.do_mask_loss_for_padding


def _act_part(policy: Any, batch: dict[str, Any], part: Part) -> Tensor:
    """ACT's error is a mean over the steps inside episodes, the divergence of its VAE one over the samples."""
    latents = []
    with policy.model.register_forward_hook(lambda model, given, output: latents.append(output[1])):
        loss = policy(batch)[0] * part.steps
    mean, log_variance = latents[0]
    if log_variance is None:
        return loss
    divergence = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(-1).mean()
    return loss + (part.rows - part.steps) * policy.config.kl_weight * divergence


DRAWS = "it cannot be given its noise, so that a robot's chunk depends on the others in its batch"
COUNTS = "steps beyond an episode's end count in its loss"

KINDS = {
    "act": Kind(part_loss=_act_part),
    "diffusion": Kind(
        step=OneStep(),
        horizon="horizon",
        real_steps=_masks,
        noise=lambda config: (config.horizon, _action_size(config)),
        needs={"noise_scheduler_type": "DDIM"},  # DDPM draws at each of its steps, for the whole batch
    ),
    "smolvla": Kind(
        reads_task=True,
        real_steps=lambda config: True,
        noise=lambda config: (config.chunk_size, config.max_action_dim),
        inside=(Inside("language", ("AutoConfig", "AutoProcessor"), "vlm_model_name"),),
    ),
    "multi_task_dit": Kind(
        reads_task=True,
        step=OneStep(images=True),
        horizon="horizon",
        real_steps=_masks,
        inside=(  # LeRobot wants "clip" in both names
            Inside("clip_text", ("AutoConfig", "AutoTokenizer"), "text_encoder_name"),
            Inside("clip_vision", ("AutoConfig",), "vision_encoder_name", tokenizer=False),
        ),
        weights=("CLIPTextModel", "CLIPVisionModel"),
        act=lambda policy, seen, noise: policy._generate_actions(policy._prepare_batch(seen)),  # its own reads a queue
        lacks=DRAWS,
    ),
    "xvla": Kind(
        reads_task=True,
        inside=(Inside("language", ("AutoTokenizer",), "tokenizer_name"),),
        lacks=f"{DRAWS}; {COUNTS}",
    ),
    "pi0": Kind(
        reads_task=True,
        noise=lambda config: (config.chunk_size, config.max_action_dim),
        needs={"use_relative_actions": False},  # the state to add would be that of the latest batch
        inside=(Inside("language", ("AutoTokenizer",), published="google/paligemma-3b-pt-224"),),
        lacks=COUNTS,
    ),
}
ELSEWHERE = {"groot": "gr00t", "pi05": "openpi"}  # policies that other vendors train, with their own recipes
READS_TASK = frozenset({"eo1", "evo1", "molmoact2", "pi0_fast", "wall_x"})


def kind_of(policy_type: str) -> Kind:
    """What is particular to the type; a plain one for those that were never tried here."""
    untried = Kind(reads_task=policy_type in READS_TASK, lacks="it was never trained with this version of Positronic")
    return KINDS.get(policy_type, untried)
