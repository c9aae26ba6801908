"""Optimiser and learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from positronic.training.trainable import ParameterGroup

PEAK = "peak_lr"


def make_optimiser(
    groups: Iterable[ParameterGroup],
    learning_rate: float | None,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW with weight decay only on matrices and kernels, not on biases, norms and embeddings of one dimension.

    ``learning_rate`` replaces the rate of every group; None keeps them.
    """
    options = []
    for group in groups:
        peak = learning_rate or group.learning_rate
        for decayed in (True, False):
            parameters = [p for p in group.parameters if p.requires_grad and (p.dim() > 1) == decayed]
            decay = weight_decay if decayed else 0.0
            if parameters:
                options.append({"params": parameters, "lr": peak, "weight_decay": decay, PEAK: peak})
    devices = {parameter.device.type for option in options for parameter in option["params"]}
    return torch.optim.AdamW(options, betas=betas, eps=eps, fused=devices <= {"cpu", "cuda"})


def lr_factor(step: int, num_steps: int, schedule: str, warmup_fraction: float, final: float = 0.0) -> float:
    """Share of the peak learning rate at 1-based ``step``: linear warm-up, then ``cosine`` to ``final``, or
    ``constant``."""
    warmup = warmup_fraction * num_steps
    if step < warmup:
        return step / warmup
    if schedule == "constant":
        return 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, num_steps + 1 - warmup)))
    return final + (1 - final) * cosine


def set_lr(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Set every group to ``factor`` of its peak. Returns the largest learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = group[PEAK] * factor
    return max(group["lr"] for group in optimiser.param_groups)
