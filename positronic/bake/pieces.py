"""Episodes that are baked before the dataset is published. They are kept, so that an interrupted bake continues where
it stopped.

They lie in a folder ``.<name>.pieces`` beside the dataset. It contains one folder for everything that pieces depend on
besides the episode (recipe, video settings, the software to the last line). In that folder there is one folder per
episode, named by the episode's fingerprint, which appears when it is complete: one mp4 per camera, the histograms of
what was encoded, and the spans in which pictures do not change.

Another bake to the same place starts in a new folder. If a worker outlives its killed bake, it finishes its episode in
the old folder, where nobody looks. The process that builds the dataset holds the lock of ``.<name>.partial``, which
covers the pieces too.
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

import av
import numpy as np

from positronic.bake.frames import LEVELS, Histogram
from positronic.bake.manifest import Manifest
from positronic.freshness import StillRun
from positronic.storage import local_path

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
HISTOGRAMS_FILE = "histograms.npy"
STILL_FILE = "still.json"
UNFINISHED_PREFIX = "unfinished-"


def pieces_path(output: str | Path) -> Path:
    """Where the pieces of the dataset ``output`` are kept."""
    path = local_path(output).resolve()
    return path.with_name(f".{path.name}.pieces")


def asked_of(planned: Manifest) -> dict[str, Any]:
    """What pieces depend on besides the episode: the recipe before its reference rotations (they are of vectors), how
    the recording is read, how videos are encoded, and the software."""
    asked = {name: getattr(planned, name) for name in ("recipe", "reader", "video")}
    return asked | {"versions": planned.provenance.get("versions")}


class Pieces:
    """A context manager over the folder ``place``. If it ends well, the pieces are removed, unless ``keep``; if it ends
    with an exception, they are kept and a message says so.

    ``found``: the fingerprints of the episodes that an interrupted bake left. ``asked``, JSON-ready: everything that
    the pieces depend on besides the episode and this package's own code.
    """

    def __init__(self, place: Path, asked: Mapping[str, Any], keep: bool = False) -> None:
        self._all, self._keep = place, keep
        digest = hashlib.sha256(json.dumps([asked, code_digest()], sort_keys=True, default=str).encode())
        self.folder = self._all / digest.hexdigest()[:16]
        self.found: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        others = [path for path in self._all.glob("*") if path != self.folder]
        for leftover in [*others, *self.folder.glob(f"{UNFINISHED_PREFIX}*")]:
            shutil.rmtree(leftover, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.found = frozenset(path.name for path in self.folder.iterdir())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept = sum(1 for path in self.folder.glob("*") if not path.name.startswith(UNFINISHED_PREFIX))
        if kind is None and self._keep:
            return
        if kind is None or not kept:
            shutil.rmtree(self._all, ignore_errors=True)
        else:
            logger.warning(
                "%d baked episode%s kept in %s; the same command continues from there. To give them up: rm -r %s",
                kept,
                "s are" if kept > 1 else " is",
                self._all,
                self._all,
            )


def code_digest() -> str:
    """sha256 (hex) over this package's source. A commit's hash would not show uncommitted changes."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


class Piece:
    """One episode's place among the pieces in ``folder``; ``paths``: one mp4 for each of ``cameras``, in order."""

    def __init__(self, folder: Path, fingerprint: str, cameras: Sequence[str]) -> None:
        self._parent, self._place, self._cameras = folder, folder / fingerprint, cameras

    def take_up(self, frames: int) -> bool:
        """Whether the episode's ``frames`` frames were baked before. A piece that a power cut left damaged is removed:
        nothing is fsynced."""
        if not self._place.exists():
            return False
        try:
            self.histograms()
            self.still_runs()
            whole = all(_count_frames(path) == frames for path in self.paths.values())
        except (OSError, EOFError, ValueError, TypeError, IndexError, av.FFmpegError):
            whole = False
        if not whole:
            shutil.rmtree(self._place, ignore_errors=True)
        return whole

    @property
    def paths(self) -> dict[str, Path]:
        return {name: self._place / file_name(number) for number, name in enumerate(self._cameras)}

    def histograms(self) -> dict[str, Histogram]:
        """As they were stored."""
        return dict(zip(self._cameras, np.load(self._place / HISTOGRAMS_FILE), strict=True))

    def still_runs(self) -> dict[str, list[StillRun]]:
        """Frames of each camera that are one picture."""
        stored = json.loads((self._place / STILL_FILE).read_text())
        return {name: [StillRun(*run) for run in runs] for name, runs in zip(self._cameras, stored, strict=True)}

    def begin(self) -> tempfile.TemporaryDirectory[str]:
        """A folder to encode into, with ``file_name(n)`` for the n-th camera. It is removed unless it is stored."""
        return tempfile.TemporaryDirectory(prefix=UNFINISHED_PREFIX, dir=self._parent, ignore_cleanup_errors=True)

    def store(self, folder: Path, histograms: Mapping[str, Histogram], still: Mapping[str, Sequence[StillRun]]) -> None:
        """Make the content of ``folder`` the episode's piece. Another process may have stored the same
        piece already."""
        stacked = np.array([histograms[name] for name in self._cameras], np.int64)
        np.save(folder / HISTOGRAMS_FILE, stacked.reshape(-1, 3, LEVELS))
        (folder / STILL_FILE).write_text(json.dumps([still[name] for name in self._cameras]))
        try:
            folder.rename(self._place)
        except OSError:
            if not self._place.exists():
                raise


def _count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].frames


def file_name(camera: int) -> str:
    """Name of the n-th camera's video."""
    return f"{camera}.mp4"
