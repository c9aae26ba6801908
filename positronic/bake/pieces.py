"""Episodes that are baked before the dataset is published, kept so that an interrupted bake goes on where it stopped.

A folder ``.<name>.pieces`` beside the dataset; in it a folder per episode, named by the episode's fingerprint, which
appears when it is whole: an mp4 per camera and the histograms of what was encoded. It is good for one recipe, video
setting and version of the software; another bake to the same place begins anew. Whoever builds the dataset holds
the lock of ``.<name>.partial`` and with it these.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from positronic.bake.frames import LEVELS, Histogram
from positronic.storage import local_path

logger = logging.getLogger(__name__)

ASKED_FILE = "asked.json"
HISTOGRAMS_FILE = "histograms.npy"
UNFINISHED_PREFIX = "unfinished-"


def pieces_path(output: str | Path) -> Path:
    """Where the pieces of the dataset ``output`` are kept."""
    path = local_path(output).absolute()
    return path.with_name(f".{path.name}.pieces")


class Pieces:
    """A context manager: left well, the pieces are removed; left by an exception, they are kept and this is said.

    ``asked``, JSON-ready, is everything that the pieces depend on besides the episode.
    """

    def __init__(self, output: str | Path, asked: Mapping[str, Any]) -> None:
        self.folder = pieces_path(output)
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
        self._asked = json.dumps({"digest": digest})

    def __enter__(self) -> Self:
        asked = self.folder / ASKED_FILE
        if self.folder.exists() and not (asked.exists() and asked.read_text() == self._asked):
            shutil.rmtree(self.folder)
        self.folder.mkdir(exist_ok=True)
        asked.write_text(self._asked)
        for leftover in self.folder.glob(f"{UNFINISHED_PREFIX}*"):
            shutil.rmtree(leftover)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept = sum(1 for path in self.folder.iterdir() if path.name != ASKED_FILE)
        if kind is None or not kept:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            logger.warning(
                "%d baked episode%s kept in %s; the same command goes on from there. To give them up: rm -r %s",
                kept,
                "s are" if kept > 1 else " is",
                self.folder,
                self.folder,
            )


class Piece:
    """One episode's place among the pieces in ``folder``; ``paths``: one mp4 for each of ``cameras``, in order."""

    def __init__(self, folder: Path, fingerprint: str, cameras: Sequence[str]) -> None:
        self._parent, self._place, self._cameras = folder, folder / fingerprint, cameras

    @property
    def exists(self) -> bool:
        """Whether the episode was baked before."""
        return self._place.exists()

    @property
    def paths(self) -> dict[str, Path]:
        return {name: self._place / file_name(number) for number, name in enumerate(self._cameras)}

    def histograms(self) -> dict[str, Histogram]:
        """As they were stored."""
        return dict(zip(self._cameras, np.load(self._place / HISTOGRAMS_FILE), strict=True))

    def begin(self) -> Path:
        """An empty folder to encode into, the n-th camera as ``file_name(n)``."""
        return Path(tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=self._parent))

    def store(self, folder: Path, histograms: Mapping[str, Histogram]) -> None:
        """Make what was begun in ``folder`` the episode's piece. Another process may have stored the same."""
        stacked = np.array([histograms[name] for name in self._cameras], np.int64)
        np.save(folder / HISTOGRAMS_FILE, stacked.reshape(-1, 3, LEVELS))
        try:
            folder.rename(self._place)
        except OSError:
            if not self.exists:
                raise
            shutil.rmtree(folder)


def file_name(camera: int) -> str:
    """Of the n-th camera's video."""
    return f"{camera}.mp4"
