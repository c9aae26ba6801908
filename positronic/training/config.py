"""The tracker group: where training reports."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class TrackerConfig:
    """``none``: only the run's own ``metrics.jsonl``. ``wandb``: Weights & Biases as well."""

    name: str = MISSING
    project: str = "positronic"
    mode: str = "online"
