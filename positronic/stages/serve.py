"""stage=serve: checkpoints behind the inference API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
    """Serve until SIGINT or SIGTERM."""
    from positronic.serving.policy import typed_recipe
    from positronic.serving.server import ServerSettings, serve

    server = config.server
    settings = ServerSettings(
        checkpoints_dir=Path(config.checkpoints_dir),
        checkpoint=config.checkpoint,
        host=server.host,
        port=server.port,
        token=server.token,
        device=server.device,
        log_level=server.log_level,
        expected=typed_recipe(config.codec, config.modality),
    )
    serve(settings)
