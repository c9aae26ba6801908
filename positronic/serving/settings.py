"""What a server is told, as one frozen value that each of its processes gets as a whole."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.serving.config import ServerConfig
from positronic.serving.policy import LoadModel, Typed
from positronic.vendors import registry

if TYPE_CHECKING:
    from positronic.storage.place import Place


@dataclass
class ServerSettings(ServerConfig):
    """What was typed of the server, and what it serves.

    ``checkpoints_dir``: an experiment's folder. ``checkpoint``: id served by default, None for the latest. ``typed``:
    what every checkpoint must agree with. ``loader``: what builds a model from a checkpoint, by default the vendors'
    registry; a function at a module's top level, or its name ``module:function``, since it travels to the worker's
    process by name.
    """

    checkpoints_dir: Path | Place
    checkpoint: str | None = None
    typed: Typed = field(default_factory=Typed)
    loader: LoadModel | str = registry.load_intact

    def load_model(self) -> LoadModel:
        """The loader, imported."""
        if not isinstance(self.loader, str):
            return self.loader
        module, _, function = self.loader.partition(":")
        return getattr(importlib.import_module(module), function)
