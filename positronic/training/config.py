"""The tracker group: where training reports. And what every vendor says of its optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from positronic.utils.fields import RULE, Rule, above, between, one_of, some

RANDOM = "random"  # vendor.base of a policy that starts from random weights
MOMENTS = {RULE: Rule(lambda value: 0 <= value < 1, "two numbers from 0 on and below 1: [0.9,0.99]", length=2)}


@dataclass
class TrackerConfig:
    """Where training reports besides its own metrics.jsonl.

    name: of the tracker's file
    project: at Weights & Biases
    group: of runs that belong together at Weights & Biases; a sweep types its name; null: to no group
    mode: online, offline (needs no account) or disabled
    """

    name: str = MISSING
    project: str = some("positronic", "a project's name", name="wandb")
    group: str | None = some(None, "a name, or null", name="wandb")
    mode: str = one_of("online", "offline", "disabled", default="online", name="wandb")


@dataclass
class OptimizerConfig:
    """How a policy is trained unless stage=train is told otherwise: AdamW, and the way of the learning rate.

    betas: decay of AdamW's two moments
    eps: added to AdamW's denominator
    weight_decay: of matrices and kernels
    grad_clip_norm: longest gradient
    lr_schedule: cosine or constant, after the warm-up
    warmup_fraction: share of the steps in which the learning rate rises
    final_lr_fraction: share of the peak at which the cosine ends
    """

    betas: list[float] = field(default_factory=lambda: [0.9, 0.999], metadata=MOMENTS)
    eps: float = above(0, default=1e-8)
    weight_decay: float = between(0, default=0.01)
    grad_clip_norm: float = above(0, default=10.0)
    lr_schedule: str = one_of("cosine", "constant", default="cosine")
    warmup_fraction: float = between(0, 1, default=0.0)
    final_lr_fraction: float = between(0, 1, default=0.0)
