"""Content fingerprint of an episode: equal content, equal fingerprint, wherever and whenever it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from positronic.raw.faults import BadEpisode
from positronic.raw.statics import encode_static


def fingerprint(files: Iterable[Path], statics: Mapping[str, Any]) -> str:
    """sha256 (hex) over names and contents of ``files``, sorted by name, and over ``statics``, keys sorted."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        digest.update(f"{path.name}\0{_file_digest(path)}\0".encode())
    encoded = {key: encode_static(value, key) for key, value in statics.items()}
    digest.update(json.dumps(encoded, sort_keys=True).encode())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BadEpisode(path.parent, f"{path.name} is missing.") from error
