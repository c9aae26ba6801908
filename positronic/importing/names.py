"""In which order recordings come."""

from __future__ import annotations

import re
from pathlib import Path


def natural(path: Path) -> list[tuple[int, str]]:
    """A key for sorting: episode_2 before episode_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]
