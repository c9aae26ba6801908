"""A raw dataset that is recorded into an object store: which parts of it are finished."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from positronic import keys
from positronic.raw.layout import META_FILE, episode_paths, is_dir_name, is_finished
from positronic.storage.outgoing import Growing
from positronic.storage.publishing import Unit


def finished(root: Path) -> Iterable[Unit]:
    """The finished episodes. There is no manifest: an episode is finished if it is not marked as unfinished."""
    return [
        Unit(path, claim=keys.UNFINISHED)
        for path in episode_paths(root)
        if (path / META_FILE).exists() and is_finished(path)
    ]


def is_inside(name: str) -> bool:
    """Whether a file is of an episode, finished or not."""
    return is_dir_name(name.partition("/")[0])


RECORDING = Growing(finished, is_inside)
