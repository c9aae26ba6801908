"""Where pretrained weights come from: a folder, an object store, a name on the Hugging Face hub, or nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.conventions import differences, require_equal
from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig
from positronic.storage.folder import local_input
from positronic.storage.uri import is_remote
from positronic.training.checkpoints import (
    CHECKPOINTS,
    PRETRAINED_MODEL,
    find_checkpoint,
    read_info,
    require_intact,
    trained_recipe,
)
from positronic.training.config import RANDOM

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@contextmanager
def base_folder(base: str, storage: StorageConfig) -> Iterator[Path | None]:
    """The folder of the weights that ``base`` names, inside the context; None for ``random``.

    A folder of that name goes before a name on the hub. What is fetched is kept in a cache, with a progress bar.

    Raises PositronicError when there is nothing of that name, the hub cannot be reached, or it is a checkpoint of ours
    and not as it was written.
    """
    if base == RANDOM:
        yield None
        return
    local = Path(base).expanduser()
    if is_remote(base) or local.is_dir() or not HUB_NAME.fullmatch(base):
        with local_input(base, storage) as folder:
            if not folder.is_dir():
                raise PositronicError(
                    f"vendor.base={base}: there is no such folder. Expected a folder, an s3:// address, a name on the "
                    f"Hugging Face hub (organisation/name), or {RANDOM}."
                )
            _require_intact(folder)
            yield folder
        return
    yield _from_hub(base)


def _require_intact(folder: Path) -> None:
    """A file that is missing is not always missed: without its settings, a tokenizer reads another text."""
    own = own_checkpoint(folder)
    if own is not None:
        require_intact(own.path)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise PositronicError(
            f"vendor.base={name}: the weights could not be fetched from the Hugging Face hub ({reason}). Fetch them "
            f"where there is a network (hf download {name}) and type vendor.base=<that folder>."
        ) from None


@dataclass(frozen=True)
class OwnCheckpoint:
    """A checkpoint of ours that training starts from. ``fields``: of its policy, all resolved."""

    path: Path
    vendor: str
    recipe: Recipe
    fields: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        """The folder with the vendor's own files."""
        return self.path / PRETRAINED_MODEL

    def require_same(self, vendor: str, recipe: Recipe, fields: Mapping[str, Any], horizon: str) -> None:
        """Raise ConventionError, both sides printed, when it is another vendor's, of another type of policy or another
        codec, or predicts another number of steps: the field ``horizon``."""
        sides = [
            {"vendor": name, "vendor.policy.type": of["type"], f"vendor.policy.{horizon}": of.get(horizon)} | contract
            for name, of, contract in (
                (self.vendor, self.fields, self.recipe.contract),
                (vendor, fields, recipe.contract),
            )
        ]
        hint = "Type the checkpoint's values, or start from other weights."
        require_equal(f"vendor.base={self.path}", sides[0], "this run", sides[1], hint)

    def other_fields(self, fields: Mapping[str, Any]) -> str:
        """The fields in which a policy differs from this one, for the message when its weights do not fit."""
        rows = differences(dict(self.fields), dict(fields))
        return "; ".join(f"vendor.policy.{name}: the checkpoint has {a}, this run has {b}" for name, a, b in rows)


def own_checkpoint(base: Path) -> OwnCheckpoint | None:
    """``base`` as a checkpoint of ours, or the last one of the experiment ``base``; None if it is something else.

    Raises PositronicError for one that cannot be read.
    """
    if (base / CHECKPOINTS).is_dir():
        base = find_checkpoint(base).path
    if not (base / keys.CHECKPOINT_FILE).is_file():
        return None
    info = read_info(base)
    return OwnCheckpoint(base, info["vendor"], trained_recipe(info), info["training"]["policy"])
