"""Names of folders and files of a raw dataset, as published.

``<root>/<block>/<episode>``, both 12 digits; the block is the first id of its 1,000 episodes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from positronic import keys
from positronic.errors import PositronicError

EPISODES_PER_BLOCK = 1000
ID_DIGITS = 12

STATICS_FILE = "static.json"
META_FILE = "meta.json"
EDITS_FILE = "edits.jsonl"
HIDDEN = f".{'[0-9]' * ID_DIGITS}-*"  # an episode that is being made or removed

VECTOR_SUFFIX = ".parquet"
VIDEO_SUFFIX = ".mp4"
INDEX_SUFFIX = ".frames.parquet"


def dir_name(number: int) -> str:
    """12 digits, zero-padded."""
    return f"{number:0{ID_DIGITS}d}"


def is_dir_name(name: str) -> bool:
    """Whether a folder's name is that of a block or an episode; others are ignored."""
    return len(name) == ID_DIGITS and name.isascii() and name.isdigit()


def episode_path(root: Path, episode_id: int) -> Path:
    """Where the episode with this id lies under ``root``."""
    block = episode_id // EPISODES_PER_BLOCK * EPISODES_PER_BLOCK
    return root / dir_name(block) / dir_name(episode_id)


def is_finished(episode: Path) -> bool:
    """False while the episode is being recorded, and for ever after a crash."""
    return not (episode / keys.UNFINISHED).exists()


def subdirs(path: Path) -> list[Path]:
    """Folders directly under ``path``, sorted by name; none when ``path`` is not there."""
    try:
        with os.scandir(path) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []


def numbered_subdirs(path: Path) -> list[Path]:
    """Folders directly under ``path`` that are named like a block or an episode, sorted."""
    return [child for child in subdirs(path) if is_dir_name(child.name)]


def episode_paths(root: Path) -> Iterator[Path]:
    """Every episode folder under ``root``, unfinished ones too, by id."""
    found = [episode for block in numbered_subdirs(root) for episode in numbered_subdirs(block)]
    yield from sorted(found, key=lambda path: int(path.name))


def last_episode_id(root: Path) -> int:
    """The highest id in use, unfinished episodes included; -1 when there is none."""
    return max((int(path.name) for path in episode_paths(root)), default=-1)


def remove_unfinished(root: Path) -> None:
    """Remove what a killed run was recording. Only the one process that writes into ``root`` may call it."""
    left = [path for path in episode_paths(root) if not is_finished(path)]
    left += [path for block in numbered_subdirs(root) for path in block.glob(HIDDEN)]
    for path in left:
        shutil.rmtree(path)


def require_empty(root: Path, what: str = "episodes", beside: str | None = None, advice: str = "") -> None:
    """Raise PositronicError when ``root`` holds episodes, which are told of as ``what``, or a file ``beside`` them.

    ``advice``: what to type rather than to record elsewhere, as a line of its own.
    """
    found = len(list(episode_paths(root)))
    if found or (beside and (root / beside).exists()):
        raise PositronicError(
            f"{root} holds {found} {what} already, and new ones are not mixed into them. {advice}"
            f"Record elsewhere, e.g. output_dir={root}_2."
        )
