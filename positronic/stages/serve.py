"""stage=serve: checkpoints behind the inference API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from positronic.stages.base import Parts


@dataclass
class Serve(Parts):
    """``checkpoints_dir``: an experiment's folder. ``checkpoint``: the id served by default, null takes the latest."""

    uses: ClassVar[tuple[str, ...]] = ("server",)

    checkpoints_dir: str = MISSING
    checkpoint: str | None = None


def run(config: Serve) -> None:
    raise NotImplementedError
