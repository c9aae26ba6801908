"""Small files, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> bool:
    """Put ``text`` at ``path`` by renaming: no reader meets half of it, and a hard link elsewhere stays as it is.

    The folder is made. Returns False, and writes nothing, when the file says so already.
    """
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return True
