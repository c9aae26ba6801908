"""The folder of one episode, wherever it is. Local folders are here, those in an object store are in ``raw.remote``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from positronic.raw.layout import META_FILE, STATICS_FILE, is_finished


class EpisodeFolder(Protocol):
    """What an episode is read from. ``str()`` of it is what a user types to name it."""

    @property
    def name(self) -> str:
        """Name of the folder: 12 digits."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """Names of its files; nothing is fetched."""
        ...

    @property
    def is_finished(self) -> bool:
        """False while it is recorded or uploaded, and for ever after a crash."""
        ...

    @property
    def path(self) -> Path:
        """Where its files are on this machine. They are fetched first if necessary."""
        ...

    def prefetch(self) -> None:
        """Begin to fetch its files, as they will be read soon."""
        ...

    def quick_digest(self) -> str:
        """sha256 (hex) over what tells its files from others without reading all of them: names, sizes and statics; in
        an object store names, sizes and entity tags."""
        ...

    def without_cameras(self) -> EpisodeFolder:
        """The same folder for a reader who needs no video, so that none is fetched."""
        ...


class LocalEpisode:
    """An episode's folder on this machine."""

    __slots__ = ("path",)  # a large dataset holds one for each of its episodes

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """Name of the folder: 12 digits."""
        return self.path.name

    @property
    def names(self) -> frozenset[str]:
        """Names of its files."""
        return frozenset(path.name for path in self.path.iterdir())

    @property
    def is_finished(self) -> bool:
        """False while it is being recorded, and for ever after a crash."""
        return is_finished(self.path)

    def prefetch(self) -> None:
        """Nothing has to be fetched."""

    def quick_digest(self) -> str:
        """sha256 (hex) over the names and sizes of its files, and over the content of its statics."""
        with os.scandir(self.path) as entries:
            files = sorted((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())
        statics = self.path / STATICS_FILE
        content = statics.read_bytes() if (STATICS_FILE in dict(files)) else b""
        return hashlib.sha256(json.dumps(files).encode() + content).hexdigest()

    def without_cameras(self) -> LocalEpisode:
        """Itself: no file is opened before it is read."""
        return self


def episode_folder(place: Path | EpisodeFolder) -> EpisodeFolder:
    """``place`` as an episode's folder; a path is one on this machine."""
    return LocalEpisode(place) if isinstance(place, Path) else place


def read_meta(episode: Path) -> dict[str, Any]:
    """``meta.json``; empty when it is missing or broken."""
    try:
        return parse_meta((episode / META_FILE).read_bytes())
    except OSError:
        return {}


def parse_meta(content: bytes) -> dict[str, Any]:
    """What a ``meta.json`` says; empty when it is broken."""
    try:
        meta = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def recorded_uid(meta: Mapping[str, Any]) -> str | None:
    """``uid``, else from ``created_ts_ns`` as published; None when neither can be read."""
    uid, created = meta.get("uid"), meta.get("created_ts_ns")
    if isinstance(uid, str) and uid:
        return uid
    return f"ts-{created}" if created and type(created) is int else None


def uid_of(meta: Mapping[str, Any], name: str) -> str:
    """The uid that was recorded, else one from the name of the episode's folder."""
    return recorded_uid(meta) or f"id-{name}"
