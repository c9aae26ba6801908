"""Where pretrained weights come from: a folder, an object store, a name on the Hugging Face hub, or nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig
from positronic.storage.folder import local_input
from positronic.storage.uri import is_remote

RANDOM = "random"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@contextmanager
def base_folder(base: str, storage: StorageConfig) -> Iterator[Path | None]:
    """The folder of the weights that ``base`` names, inside the context; None for ``random``.

    A folder of that name goes before a name on the hub. What is fetched is kept in a cache, with a progress bar.

    Raises PositronicError when there is nothing of that name, or the hub cannot be reached.
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
            yield folder
        return
    yield _from_hub(base)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise PositronicError(
            f"vendor.base={name}: the weights could not be fetched from the Hugging Face hub ({reason}). Fetch them "
            f"where there is a network (hf download {name}) and type vendor.base=<that folder>, or start from "
            f"untrained weights: vendor.base={RANDOM}."
        ) from None
