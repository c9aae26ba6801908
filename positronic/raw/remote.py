"""Raw datasets in an object store: listed once, each episode fetched when it is read."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from positronic import keys
from positronic.errors import PositronicError
from positronic.raw.edits import NO_EDITS, Edits, parse_edits
from positronic.raw.folder import parse_meta, uid_of
from positronic.raw.layout import EDITS_FILE, META_FILE, VIDEO_SUFFIX, is_dir_name
from positronic.raw.leftout import NOTHING, LeftOut, without_dropped
from positronic.storage.client import Client, RemoteFile, connect
from positronic.storage.config import StorageConfig
from positronic.storage.entries import Held
from positronic.storage.folder import RemoteFolder
from positronic.storage.uri import S3Uri, parse

_PREFETCHING = threading.BoundedSemaphore(2)  # episodes at a time


class RemoteEpisode:
    """The files of one episode. They are fetched at first use, and stay on this machine while this object lives.

    Other processes receive it as a list of files. Each fetches the files for itself, or takes them from the cache.
    """

    def __init__(self, folder: RemoteFolder, files: Iterable[RemoteFile]) -> None:
        self.folder = folder
        self.files = tuple(files)

    def __str__(self) -> str:
        return str(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "files": self.files}

    @property
    def name(self) -> str:
        """Name of its folder: 12 digits."""
        return self.folder.name

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of its files."""
        return frozenset(file.name for file in self.files)

    @property
    def is_finished(self) -> bool:
        """False while it is recorded or uploaded, and for ever after a crash."""
        return keys.UNFINISHED not in self.names

    @property
    def path(self) -> Path:
        """Where its files are on this machine. Raises PositronicError when they cannot be fetched."""
        return self._held.path

    def prefetch(self) -> None:
        """Fetch it in the background for the next reader, who also gets the errors."""
        threading.Thread(target=self._try_to_fetch, daemon=True).start()

    def quick_digest(self) -> str:
        """sha256 (hex) over the names, sizes and entity tags of its files; nothing is fetched."""
        return hashlib.sha256(json.dumps(sorted(self.files)).encode()).hexdigest()

    def without_cameras(self) -> RemoteEpisode:
        """The same episode without its videos."""
        return RemoteEpisode(self.folder, [file for file in self.files if not file.name.endswith(VIDEO_SUFFIX)])

    def _try_to_fetch(self) -> None:
        with _PREFETCHING, contextlib.suppress(Exception):
            self.folder.hold_listed(self.files).close()

    @cached_property
    def _held(self) -> Held:
        return self.folder.hold_listed(self.files)


class _Root(NamedTuple):
    """One dataset: its episodes, unfinished ones too, and its edits."""

    episodes: list[RemoteEpisode]
    edits: Edits

    @property
    def finished(self) -> list[RemoteEpisode]:
        return [episode for episode in self.episodes if episode.is_finished]


def open_remote(
    uri: str | Path, storage: StorageConfig | None, tree: bool
) -> tuple[RemoteFolder, list[tuple[RemoteEpisode, Edits]], LeftOut]:
    """The folder, its finished episodes in order (each with the edits of its dataset), and what was left out.

    ``tree``: every dataset in the tree of folders. Raises PositronicError when there is none.
    """
    folder = RemoteFolder(parse(uri), storage or StorageConfig())
    client = connect(folder.config)
    roots = client.run(_roots(client, folder, tree))
    uids = client.run(_uids(client, [episode for root in roots if root.edits.dropped for episode in root.finished]))
    kept, left_out = [], NOTHING
    for root in roots:
        own = {episode: uids[episode] for episode in root.finished if episode in uids}
        unfinished = [episode for episode in root.episodes if not episode.is_finished]
        found, others = without_dropped(root.finished, unfinished, root.edits, own)
        kept += [(episode, root.edits) for episode in found]
        left_out = left_out.and_those(others)
    if not kept:
        raise PositronicError(_why_empty(folder, left_out, tree))
    return folder, kept, left_out


async def _roots(client: Client, folder: RemoteFolder, tree: bool) -> list[_Root]:
    """Parents before children, by name."""
    top = await client.listing(folder.uri, nested=False)
    blocks = [_block(client, folder / name) for name in top.folders if is_dir_name(name)]
    below = [name for name in top.folders if tree and not is_dir_name(name) and not name.startswith(".")]
    children = [_roots(client, folder / name, tree) for name in sorted(below)]
    has_edits = any(file.name == EDITS_FILE for file in top.files)
    edits = await _edits(client, folder.uri / EDITS_FILE) if has_edits else NO_EDITS
    episodes = [episode for block in await asyncio.gather(*blocks) for episode in block]
    episodes.sort(key=lambda episode: int(episode.name))
    return [_Root(episodes, edits), *(root for child in await asyncio.gather(*children) for root in child)]


async def _block(client: Client, block: RemoteFolder) -> list[RemoteEpisode]:
    """One listing for all episodes of a block, with what is needed to fetch them."""
    files: dict[str, list[RemoteFile]] = {}
    for file in (await client.listing(block.uri)).files:
        episode, _, name = file.name.partition("/")
        if is_dir_name(episode) and name and "/" not in name:
            files.setdefault(episode, []).append(file._replace(name=name))
    return [RemoteEpisode(block / episode, found) for episode, found in files.items()]


async def _edits(client: Client, file: S3Uri) -> Edits:
    return parse_edits(await client.get(file), str(file))


async def _uids(client: Client, episodes: list[RemoteEpisode]) -> dict[RemoteEpisode, str]:
    """The uids by which edits name episodes; each is in its episode's meta data."""

    async def uid(episode: RemoteEpisode) -> str:
        there = META_FILE in episode.names
        meta = parse_meta(await client.get(episode.folder.uri / META_FILE)) if there else {}
        return uid_of(meta, episode.name)

    return dict(zip(episodes, await asyncio.gather(*map(uid, episodes)), strict=True))


def _why_empty(folder: RemoteFolder, left_out: LeftOut, tree: bool) -> str:
    if left_out.unfinished or left_out.dropped:
        counts = f"{len(left_out.unfinished)} unfinished, {left_out.dropped} dropped by edits"
        return f"Raw dataset {folder} has no finished episode ({counts})."
    if is_dir_name(folder.name):
        return f"{folder} is inside a raw dataset. Open the dataset: dataset.path=<the folder above>."
    hint = "" if tree else " If there are datasets in folders below, read the tree: dataset.layout=local_all"
    return f"Raw dataset {folder} does not exist, or has no episode.{hint}"
