"""The tracker group: where training reports."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from positronic.utils.fields import one_of, only_with


@dataclass
class TrackerConfig:
    """Where training reports besides its own metrics.jsonl.

    name: of the tracker's file
    project: at Weights & Biases
    mode: online, offline (needs no account) or disabled
    """

    name: str = MISSING
    project: str = only_with("positronic", name="wandb")
    mode: str = one_of("online", "offline", "disabled", default="online", name="wandb")
