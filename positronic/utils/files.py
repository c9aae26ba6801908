"""Small files, written completely or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path


def replace_text(path: Path, text: str) -> bool:
    """Put ``text`` at ``path`` by renaming: no reader sees half of it, and a hard link elsewhere keeps the old content.

    The folder is made. Returns False, and writes nothing, if the file already holds this text. On a full disk the file
    stays as it was.
    """
    return replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> bool:
    """Like ``replace_text``."""
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    return True


def numbered(place: str) -> Iterator[str]:
    """``place``, ``place_2``, ``place_3``, ... for whoever takes the first one that is free."""
    yield place
    for number in itertools.count(2):
        yield f"{place}_{number}"
