"""Records raw episodes, version 1 of the published format.

An episode's folder appears with the marker ``.unfinished`` in it. The episode is finished when the marker is removed,
as the last step. Several processes may write one dataset: a folder is taken by an atomic rename, in which only one of
them succeeds.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import logging
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.fingerprint import FILES, describe
from positronic.raw.layout import (
    INDEX_SUFFIX,
    META_FILE,
    STATICS_FILE,
    VECTOR_SUFFIX,
    VIDEO_SUFFIX,
    episode_path,
    last_episode_id,
)
from positronic.raw.plausible import MIN_EPISODE_NS, UNIT_HINT
from positronic.raw.statics import encode_static, write_json
from positronic.raw.vector_writer import VectorWriter
from positronic.raw.video_writer import CopiedVideo, VideoOptions, VideoWriter

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
DISTRIBUTION = "positronic-hydra"
UNFINISHED_TEXT = "unfinished"


class SignalWriter(Protocol):
    """Writes one signal into an episode's folder."""

    def append(self, value: Any, time_ns: int, /) -> None:
        """Add a sample."""
        ...

    def close(self) -> None:
        """Write what is left. It may be called again."""
        ...


CameraFactory = Callable[[str, Path, VideoOptions], SignalWriter]  # of a signal's name and the episode's folder
VectorFactory = Callable[[str, Path], SignalWriter]  # of a signal's name and its file


class DatasetWriter:
    """Adds episodes to the dataset at ``root``, which is made if missing. Ids are never given twice.

    ``video``: how cameras are encoded; ``git``: commit, branch, dirty, noted in each episode's meta data. ``camera``,
    ``vector``: who writes a signal's file.
    """

    def __init__(
        self,
        root: str | Path,
        video: VideoOptions | None = None,
        git: Mapping[str, Any] | None = None,
        camera: CameraFactory = VideoWriter,
        vector: VectorFactory = VectorWriter,
    ) -> None:
        self.root = Path(root).expanduser()
        self.root.mkdir(parents=True, exist_ok=True)
        self._video = video or VideoOptions()
        self._git = git
        self._camera, self._vector = camera, vector
        self._next_id = last_episode_id(self.root) + 1

    def new_episode(self, episode_id: int | None = None) -> EpisodeWriter:
        """Start an episode, under the next free id or under ``episode_id``. With ``episode_id``, ids do not depend on
        which process is first.

        Raises PositronicError when ``episode_id`` is taken.
        """
        created_ns = time.time_ns()
        candidates = itertools.count(self._next_id) if episode_id is None else [episode_id]
        for candidate in candidates:
            path = episode_path(self.root, candidate)
            if _reserve(path):
                self._next_id = max(self._next_id, candidate + 1)
                return EpisodeWriter(path, self._video, self._meta(path, created_ns), self._camera, self._vector)
        raise PositronicError(
            f"Episode {episode_id} exists already: {path}. Delete that folder to record it again, or leave out "
            "episode_id to take the next free one."
        )

    def _meta(self, path: Path, created_ns: int) -> dict[str, Any]:
        writer = {"python": platform.python_version(), "platform": platform.platform(), "version": _version()}
        writer |= {"git": dict(self._git)} if self._git else {}
        return {
            "schema_version": SCHEMA_VERSION,
            "uid": uuid.uuid4().hex,
            "created_ts_ns": created_ns,
            "writer": writer | {"name": f"{EpisodeWriter.__module__}.{EpisodeWriter.__qualname__}"},
            "path": str(path.absolute()),
        }


class EpisodeWriter:
    """Records one episode; a context manager: leaving it finishes the episode, an exception removes it."""

    def __init__(
        self,
        path: Path,
        video: VideoOptions,
        meta: Mapping[str, Any],
        camera: CameraFactory,
        vector: VectorFactory,
    ) -> None:
        self.path = path
        self._video, self._camera, self._vector = video, camera, vector
        self._meta = dict(meta)
        self._statics: dict[str, Any] = {}
        self._signals: dict[str, SignalWriter] = {}
        self._spans: dict[str, tuple[int, int]] = {}  # first and last stamp, ns
        self._open = True

    @property
    def id(self) -> int:
        """Number of the episode in the dataset."""
        return int(self.path.name)

    def append(self, name: str, value: Any, time_ns: int) -> None:
        """Add a sample: an image (uint8, (H, W, 3)), a scalar (bool, int, float, str) or a vector (D,).

        A signal begins with its first sample. Raises PositronicError when ``time_ns`` is not a whole number or does not
        increase, when shape or type change, and when a static has that name.
        """
        self._check_open()
        time_ns = whole_ns(name, time_ns)
        signal = self._signals.get(name) or self._new_signal(name, value)
        first, last = self._spans.get(name, (time_ns, None))
        if last is not None and time_ns <= last:
            raise PositronicError(
                f"Signal '{name}': time must increase; after {last} ns it got {time_ns} ns ({UNIT_HINT})."
            )
        signal.append(value, time_ns)
        self._signals[name] = signal
        self._spans[name] = (first, time_ns)

    def copy_video(self, name: str, source: Path, first: int, times_ns: Sequence[int]) -> bool:
        """Record a camera from an existing video without encoding it again: its frames from number ``first`` on, taken
        at ``times_ns``.

        Returns False, and records nothing, where the frames cannot be cut out of the file. Raises PositronicError for
        stamps that do not increase, for a video that cannot be read, and as ``append`` does.
        """
        from positronic.raw.remux import copy_frames

        self._check_open()
        self._check_name(name)
        stamps = [whole_ns(name, time_ns) for time_ns in times_ns]
        if name in self._signals or not stamps or any(b <= a for a, b in pairwise(stamps)):
            raise PositronicError(f"Signal '{name}': a copied video needs a name of its own, and stamps that increase.")
        if not copy_frames(source, first, len(stamps), self.path / f"{name}{VIDEO_SUFFIX}"):
            return False
        self._signals[name] = CopiedVideo(name, self.path, stamps)
        self._spans[name] = (stamps[0], stamps[-1])
        return True

    def set_static(self, key: str, value: Any) -> None:
        """Note what is true throughout the episode: str, int, float, bool, bytes, list or dict. Raises PositronicError
        if it was set before."""
        self._check_open()
        if key in self._statics or key in self._signals:
            what = "static" if key in self._statics else "signal"
            raise PositronicError(f"Static '{key}': this episode has a {what} of that name already.")
        self._statics[key] = encode_static(value, key)

    def set_meta(self, key: str, value: Any) -> None:
        """Note, in ``meta.json``, what is said about the recording and is no part of it: episodes that differ in this
        alone are the same. ``value``: as of ``set_static``."""
        self._check_open()
        self._meta[key] = encode_static(value, key)

    def finish(self) -> None:
        """Write everything and, last, remove the marker. If that fails the episode is removed."""
        self._check_open()
        try:
            for signal in self._signals.values():
                signal.close()
            write_json(self.path / STATICS_FILE, self._statics)
            write_json(self.path / META_FILE, self._meta | self._duration() | {FILES: self._files()})
        except BaseException:
            self.abort()
            raise
        self._open = False
        (self.path / keys.UNFINISHED).unlink()
        self._say_if_too_short()

    def abort(self) -> None:
        """Remove the episode; its id stays unused. Does nothing if the episode is already finished or removed."""
        if not self._open:
            return
        self._open = False
        for signal in self._signals.values():
            with contextlib.suppress(Exception):  # closing may be what failed; only the file handle matters here
                signal.close()
        discarded = _hidden(self.path)
        self.path.rename(discarded)  # in one step, so that no reader finds it half deleted and without its marker
        shutil.rmtree(discarded, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._open:
            self.finish()

    def _check_open(self) -> None:
        if not self._open:
            raise PositronicError(f"Episode {self.id} ({self.path}) is closed; start another with new_episode().")

    def _new_signal(self, name: str, value: Any) -> SignalWriter:
        self._check_name(name)
        if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
            return self._camera(name, self.path, self._video)
        return self._vector(name, self.path / f"{name}{VECTOR_SUFFIX}")

    def _check_name(self, name: str) -> None:
        if name in self._statics:
            raise PositronicError(f"Signal '{name}': this episode has a static of that name already.")
        if not name or "/" in name or name.startswith(".") or (name + VECTOR_SUFFIX).endswith(INDEX_SUFFIX):
            raise PositronicError(
                f"Signal '{name}': not a name, as it becomes a file's name. Use letters, digits, '_' and inner dots, "
                "and do not end in '.frames'."
            )

    def _files(self) -> dict[str, dict[str, Any]]:
        return describe(path for path in self.path.iterdir() if path.name != keys.UNFINISHED)

    def _say_if_too_short(self) -> None:
        """Warn now, while the recording program can still be mended: readers will call such an episode bad."""
        length = self._duration().get("duration_ns", MIN_EPISODE_NS)
        if 0 < length < MIN_EPISODE_NS:
            logger.warning("Episode %d (%s) lasts %d ns; %s.", self.id, self.path, length, UNIT_HINT)

    def _duration(self) -> dict[str, int]:
        if not self._spans:
            return {}
        firsts, lasts = zip(*self._spans.values(), strict=True)
        return {"duration_ns": max(lasts) - max(firsts)}


def whole_ns(name: str, time_ns: Any) -> int:
    """A stamp as int. Floats are refused, not cut: most are seconds, and nanoseconds in a float have lost digits."""
    if type(time_ns) is int and abs(time_ns) < 1 << 63:  # nearly all are, and asking an abstract class takes long
        return time_ns
    if isinstance(time_ns, Integral) and not isinstance(time_ns, bool) and abs(int(time_ns)) < 1 << 63:
        return int(time_ns)
    raise PositronicError(
        f"Signal '{name}': a stamp is a whole number of nanoseconds, got {time_ns!r} ({type(time_ns).__name__}). From "
        "seconds: round(seconds * 10**9); from a clock: time.monotonic_ns()."
    )


def _reserve(path: Path) -> bool:
    """Make the folder with its marker in it, in one step; False when it is there already."""
    if path.exists():
        return False
    hidden = _hidden(path)
    hidden.mkdir(parents=True)
    (hidden / keys.UNFINISHED).write_text(UNFINISHED_TEXT)
    try:
        hidden.rename(path)
    except OSError:  # taken meanwhile: a rename never replaces a folder that is not empty
        shutil.rmtree(hidden)
        if path.exists():
            return False
        raise
    return True


def _hidden(path: Path) -> Path:
    """A name beside ``path`` that no reader looks at."""
    return path.with_name(f".{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""
