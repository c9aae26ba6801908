"""What a recorder notes in ``meta.json`` about the files that it wrote, held against those that are there.

A file of the same size and another content is damaged: no check of a video or of JSON finds a flipped byte. One of
another size was replaced, as by somebody who encoded a video again: it is judged by what it holds, and only mentioned.
Recordings of others note nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from positronic.raw.faults import BadEpisode
from positronic.raw.fingerprint import file_digest

FILES = "files"  # in meta.json: {name: {"size": bytes, "sha256": hex}}
SIZE = "size"
SHA256 = "sha256"


def describe(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What is noted about ``files``."""
    return {path.name: {SIZE: path.stat().st_size, SHA256: file_digest(path)} for path in sorted(files)}


def replaced(folder: Path, digests: Mapping[str, str], meta: Mapping[str, Any]) -> Iterator[str]:
    """Names of those files of an episode that are others than the recorder wrote. ``digests``: name -> sha256 (hex).

    Raises BadEpisode for a file that is damaged.
    """
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
