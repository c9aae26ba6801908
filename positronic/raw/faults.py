"""What is wrong with one recorded episode."""

from __future__ import annotations

from pathlib import Path

from positronic.errors import PositronicError


class BadEpisode(PositronicError):  # noqa: N818  (it names the state of the data)
    """An episode that cannot be used as recorded: ``id``, ``path`` and ``reason`` (which names the file)."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    @property
    def id(self) -> int:
        """The episode's number, from its folder's name; -1 when the folder is not an episode's."""
        return int(self.path.name) if self.path.name.isdigit() else -1

    def __str__(self) -> str:
        where = f"episode {self.id}" if self.id >= 0 else "episode"
        return f"Bad {where} ({self.path}): {self.reason}"


class MissingSignal(BadEpisode):
    """An episode without a signal that was asked for; the reason names the nearest one present."""
