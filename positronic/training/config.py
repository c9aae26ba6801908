"""The tracker group: where training reports."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from positronic.utils.fields import one_of, some


@dataclass
class TrackerConfig:
    """Where training reports besides its own metrics.jsonl.

    name: of the tracker's file
    project: at Weights & Biases
    mode: online, offline (needs no account) or disabled
    """

    name: str = MISSING
    project: str = some("positronic", "a project's name", name="wandb")
    mode: str = one_of("online", "offline", "disabled", default="online", name="wandb")
