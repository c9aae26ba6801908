"""Content fingerprint of an episode: equal content, equal fingerprint, wherever and whenever it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from positronic.raw.faults import BadEpisode
from positronic.raw.statics import json_ready


def fingerprint(digests: Mapping[str, str], statics: Mapping[str, Any]) -> str:
    """sha256 (hex) over ``digests``, name -> sha256 of each file, sorted by name, and over ``statics``, keys sorted."""
    digest = hashlib.sha256()
    for name, found in sorted(digests.items()):
        digest.update(f"{name}\0{found}\0".encode())
    encoded = {key: json_ready(value) for key, value in statics.items()}
    digest.update(json.dumps(encoded, sort_keys=True).encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file. Raises BadEpisode when it is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BadEpisode(path.parent, f"{path.name} is missing.") from error
    except OSError as error:
        raise BadEpisode(path.parent, f"{path.name} cannot be read ({error}).") from error
