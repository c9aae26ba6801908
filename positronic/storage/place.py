"""A folder that is read, wherever it is: what local and remote folders have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

Select = Callable[[str], bool]
"""Whether a file, by its name within the folder, is needed."""


class Place(Protocol):
    """A folder. ``str()`` of it is what a user types to name it. ``LocalFolder`` and ``RemoteFolder`` are such."""

    def __truediv__(self, name: str) -> Self: ...

    @property
    def name(self) -> str:
        """The last part of its path."""
        ...

    @property
    def parent(self) -> Self:
        """The folder above."""
        ...

    @property
    def local(self) -> Path | None:
        """Its path, when it is on this machine."""
        ...

    def read_bytes(self, name: str) -> bytes | None:
        """A small file in it; None when there is none."""
        ...

    def folders_with(self, name: str) -> list[str]:
        """Names of the folders directly in it that hold a file called ``name``."""
        ...

    def entries(self) -> list[str]:
        """Names of the files and folders directly in it."""
        ...

    def fetch(self, select: Select | None = None) -> Path:
        """A local folder with the files that ``select`` takes; it stays until this process ends."""
        ...


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    @property
    def parent(self) -> LocalFolder:
        """The folder above, also of a relative path."""
        return LocalFolder(self.path.resolve().parent)

    @property
    def local(self) -> Path:
        """Its path."""
        return self.path

    def read_bytes(self, name: str) -> bytes | None:
        """A file in it; None when there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def folders_with(self, name: str) -> list[str]:
        """Names of the folders directly in it that hold a file called ``name``."""
        return [path.parent.name for path in self.path.glob(f"*/{name}")]

    def entries(self) -> list[str]:
        """Names of the files and folders directly in it."""
        return [path.name for path in self.path.iterdir()]

    def fetch(self, select: Select | None = None) -> Path:
        """Its path: nothing has to be fetched."""
        return self.path
