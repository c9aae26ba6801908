"""Small files, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_text(path: Path, text: str) -> bool:
    """Put ``text`` at ``path`` by renaming: no reader meets half of it, and a hard link elsewhere stays as it is.

    The folder is made. Returns False, and writes nothing, when the file says so already. On a full disk the file stays
    as it was.
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
