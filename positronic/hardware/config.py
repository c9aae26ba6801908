"""The hardware group: what moves."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class HardwareConfig:
    """Base of every robot's config; each robot has its own subclass beside it.

    name: of the hardware's file
    """

    name: str = MISSING
