"""What an episode's files hold: its fingerprint, and whether they are those that the recorder wrote.

Equal content has an equal fingerprint, wherever and whenever it was written. The recorder notes size and sha256 of each
file. One of the same size and another content is damaged: no check of a video or of JSON finds a flipped byte. One of
another size was replaced, as by somebody who encoded a video again: it is judged by what it holds, and only mentioned.
Recordings of others note nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from positronic.raw.faults import BadEpisode
from positronic.raw.statics import json_ready

FILES = "files"  # in meta.json: {name: {"size": bytes, "sha256": hex}}
SIZE = "size"
SHA256 = "sha256"


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


def describe(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What is noted about ``files``."""
    return {path.name: {SIZE: path.stat().st_size, SHA256: file_digest(path)} for path in sorted(files)}


def replaced(folder: Path, digests: Mapping[str, str], meta: Mapping[str, Any]) -> Iterator[str]:
    """Names of the files of an episode that are not those that the recorder wrote. ``digests``: name -> sha256 (hex).
    Raises BadEpisode for a file that is damaged."""
    noted = meta.get(FILES)
    for name, digest in digests.items():
        file = noted.get(name) if isinstance(noted, dict) else None
        if not isinstance(file, dict) or file.get(SHA256) == digest:
            continue
        if (folder / name).stat().st_size == file.get(SIZE):
            raise BadEpisode(
                folder,
                f"{name} is damaged: it has the size that was recorded, but another sha256 than meta.json notes. Copy "
                f"it again; if it was changed on purpose, delete '{FILES}' from meta.json.",
            )
        yield name
