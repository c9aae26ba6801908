"""A vendor's own files in a baked dataset, as plain data: name in the dataset -> content."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Derived(Protocol):
    """Content that follows from the dataset's numbers. A frozen dataclass that says which of them it needs."""

    def text(self, root: Path) -> str:
        """The content for the dataset in ``root``, whose data files are whole."""
        ...


Companion = str | Derived
"""The content of a file, or what it is computed from."""


def companion_text(companion: Companion, root: Path) -> str:
    """The content for the dataset in ``root``."""
    return companion if isinstance(companion, str) else companion.text(root)
