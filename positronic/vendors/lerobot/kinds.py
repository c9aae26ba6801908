"""What is particular to a type of lerobot's policies: what it reads, where its chunk starts, what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from positronic import keys

Act = Callable[[Any, dict[str, Any], Tensor | None], Tensor]
"""A policy, a preprocessed batch and noise -> chunks (B, H, A), normalised."""


def _predict(policy: Any, seen: dict[str, Any], noise: Tensor | None) -> Tensor:
    return policy.predict_action_chunk(seen) if noise is None else policy.predict_action_chunk(seen, noise=noise)


@dataclass(frozen=True)
class Kind:
    """``reads_task``: it is language-conditioned. ``has_time``: its state is (B, 1, D), of one step of observation.
    ``noise``: its config -> the shape of the random numbers that a chunk starts from; None draws none, or cannot be
    given any. ``needs``: values without which robots cannot share it, or padding would count. ``folder``: the field
    with a name on the hub, or a folder, of tokenizer and processor. ``horizon``: the field that says how many steps are
    predicted. ``lacks``: what is said when it is trained.
    """

    reads_task: bool = False
    has_time: bool = False
    noise: Callable[[Any], tuple[int, int]] | None = None
    needs: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    act: Act = _predict
    horizon: str = "chunk_size"
    lacks: str | None = None


@dataclass(frozen=True)
class OneStep:
    """State (B, D) as (B, 1, D), for policies that take several steps of observation, of which there is one."""

    def __call__(self, values: Mapping[str, Any], join: Any) -> dict[str, Any]:
        state = values.get(keys.LEROBOT_STATE)
        return dict(values) | ({keys.LEROBOT_STATE: state.unsqueeze(1)} if isinstance(state, Tensor) else {})


def _action_size(config: Any) -> int:
    return config.output_features[keys.LEROBOT_ACTION].shape[0]


DRAWS = "it cannot be given its noise, so that a robot's chunk depends on the others in its batch"
STAYS = "its checkpoint names the folder of its tokenizer, which must stay where it is"
COUNTS = "steps beyond an episode's end count in its loss"

KINDS = {
    "act": Kind(),
    "diffusion": Kind(
        has_time=True,
        horizon="horizon",
        noise=lambda config: (config.horizon, _action_size(config)),
        needs={"noise_scheduler_type": "DDIM"},  # DDPM draws at each of its steps, for the whole batch
    ),
    "smolvla": Kind(
        reads_task=True,
        noise=lambda config: (config.chunk_size, config.max_action_dim),
        folder="vlm_model_name",
    ),
    "multi_task_dit": Kind(
        reads_task=True,
        has_time=True,
        horizon="horizon",
        act=lambda policy, seen, noise: policy._generate_actions(policy._prepare_batch(seen)),  # its own reads a queue
        lacks=f"{DRAWS}; {STAYS}",
    ),
    "xvla": Kind(reads_task=True, lacks=f"{DRAWS}; {COUNTS}; {STAYS}"),
    "pi0": Kind(reads_task=True, lacks=COUNTS),
}
ELSEWHERE = {"groot": "gr00t", "pi05": "openpi"}  # policies that other vendors train, with their own recipes
READS_TASK = frozenset({"eo1", "evo1", "molmoact2", "pi0_fast", "wall_x"})


def kind_of(policy_type: str) -> Kind:
    """What is particular to the type; a plain one for those that were never tried here."""
    untried = Kind(reads_task=policy_type in READS_TASK, lacks="it was never trained with this version of Positronic")
    return KINDS.get(policy_type, untried)
