"""A checkpoint of openpi's own, which does not say how it was trained: what was typed says it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.storage.place import Select
from positronic.training.checkpoints import FORMAT, ID_DIGITS
from positronic.upstream.checkout import PYTHON
from positronic.vendors.config import VendorConfig
from positronic.vendors.openpi.cache import BUCKET, CHECKOUT, PARAMS, WRITTEN, require_cached
from positronic.vendors.openpi.spec import SPEC_FILE

ID = "0" * ID_DIGITS


@dataclass(frozen=True)
class Pretrained:
    """Its folder as an experiment with one checkpoint, for who reads places: each folder in it is itself.

    ``said``: what people call it. ``info``: JSON, what ``positronic.json`` would hold. Nothing is written into it.
    """

    said: str
    path: Path
    info: str

    def __str__(self) -> str:
        return self.said

    def __truediv__(self, name: str) -> Pretrained:
        return self

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    @property
    def parent(self) -> Pretrained:
        """Itself."""
        return self

    @property
    def local(self) -> None:
        """It is not held: nobody of ours removes it, and it may be read-only."""

    def read_bytes(self, name: str) -> bytes | None:
        """What was typed, as ``positronic.json``; there is nothing else to read."""
        return self.info.encode() if name == keys.CHECKPOINT_FILE else None

    def folders_with(self, name: str) -> list[str]:
        """The only checkpoint."""
        return [ID] if name == keys.CHECKPOINT_FILE else []

    def entries(self) -> list[str]:
        """Names of the files and folders in it."""
        return [path.name for path in self.path.iterdir()]

    def fetch(self, select: Select | None = None) -> Path:
        """Its path."""
        return self.path


def find(said: str, vendor: VendorConfig) -> Path | None:
    """The folder of a checkpoint of openpi's own, a local one or of its cache; None if there is something else.

    Raises PositronicError for a gs:// address that is not in the cache.
    """
    if said.startswith(BUCKET):
        return require_cached(
            said, "The checkpoint is missing", vendor.python or str(Path(vendor.repo or CHECKOUT) / PYTHON)
        )
    folder = Path(said)
    is_pretrained = (folder / PARAMS / WRITTEN).is_file() and not (folder / SPEC_FILE).exists()
    return folder if is_pretrained else None


def place(said: str, folder: Path, recipe: Recipe, vendor: str, backend: str) -> Pretrained:
    """It as ``recipe`` says. Raises PositronicError for a codec whose columns openpi's own configs do not know."""
    if recipe.codec.inference_only is None:
        raise PositronicError(
            f"{said} is a checkpoint of openpi's own, and codec={recipe.codec.name} is for what was trained from here. "
            "Type codec=droid."
        )
    info: dict[str, Any] = {"format": FORMAT, "vendor": vendor, "recipe": recipe.to_dict()}
    return Pretrained(said, folder, json.dumps(info | {"training": {"backend": backend}}))
