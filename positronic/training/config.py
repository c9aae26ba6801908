"""The tracker group: where training reports."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from positronic.utils.fields import one_of


@dataclass
class TrackerConfig:
    """``none``: only the run's own ``metrics.jsonl``. ``wandb``: Weights & Biases as well."""

    name: str = MISSING
    project: str = "positronic"
    mode: str = one_of("online", "offline", "disabled", default="online")
