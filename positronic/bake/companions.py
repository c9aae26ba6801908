"""A vendor's own files in a baked dataset, as plain data: name in the dataset -> content."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol


class Derived(Protocol):
    """Content that follows from the dataset's numbers. A frozen dataclass that says which of them it needs."""

    def text(self, root: Path, held_out: Collection[int] = ()) -> str:
        """The content for the dataset in ``root``, whose data files are whole, without the episodes ``held_out``."""
        ...


Companion = str | Derived
"""The content of a file, or what it is computed from."""


def companion_text(companion: Companion, root: Path, held_out: Collection[int] = ()) -> str:
    """The content for the dataset in ``root``, of which the episodes ``held_out`` are not trained on."""
    return companion if isinstance(companion, str) else companion.text(root, held_out)
