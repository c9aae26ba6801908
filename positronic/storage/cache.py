"""Local copies of remote folders, kept as entries of the cache.

An entry is one version of one folder: the files that were asked for, with their sizes and etags. A changed folder is
another entry, so that a process that reads the old one keeps it; files that did not change are linked, not fetched
again. What a crashed process had fetched is where the next one goes on.

    <cache_dir>/entries/<folder's hash>-<version's hash>/{entry.json, files/<bucket>/<folder...>}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from positronic.storage import entries
from positronic.storage.client import RemoteFile, connect, each
from positronic.storage.config import StorageConfig, endpoint_of
from positronic.storage.entries import RECORD, Entry, Held
from positronic.storage.progress import byte_bar
from positronic.storage.transfer import download
from positronic.storage.uri import S3Uri

FILES = "files"


def hold(folder: S3Uri, files: Sequence[RemoteFile], config: StorageConfig, show: bool = False) -> Held:
    """These files of ``folder`` on the local disk. They are fetched if necessary, and stay while they are held.

    Raises PreconditionError or MissingError when the folder has changed since it was listed, PositronicError when the
    disk is too small, the cache cannot be written, or the store cannot be reached.
    """
    return entries.hold(entry_of(folder, files, config), Copy(folder, files, config, show))


def entry_of(folder: S3Uri, files: Sequence[RemoteFile], config: StorageConfig) -> Entry:
    """Where this version of the folder is, or will be."""
    name = _digest([endpoint_of(config), str(folder)]) + "-" + _digest([list(file) for file in sorted(files)])
    root = entries.entries_root(config) / name
    return Entry(root, root.joinpath(FILES, folder.bucket, *folder.key.split("/")))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Copy:
    """Files of a folder that are to be on the local disk."""

    folder: S3Uri
    files: Sequence[RemoteFile]
    config: StorageConfig
    show: bool
    made: str = "fetched"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def waiting(self) -> str:
        return f"Another process fetches {self.folder}; waiting for it."

    def is_whole(self, entry: Entry) -> bool:
        return all((entry.files / file.name).stat().st_size == file.size for file in self.files)

    @property
    def record(self) -> dict[str, Any]:
        """Which files these are."""
        return {"uri": str(self.folder), "files": {file.name: file[1:] for file in self.files}}

    def fill(self, entry: Entry) -> dict[str, Any]:
        self.fetch(entry, self.missing(entry))
        return self.record

    def missing(self, entry: Entry) -> list[RemoteFile]:
        """Those that are not there, for which room is made."""
        _link_known(entry, self.files)
        missing = [file for file in self.files if not (entry.files / file.name).exists()]
        entries.make_room(sum(file.size for file in missing), self)
        return missing

    def fetch(self, entry: Entry, files: Sequence[RemoteFile]) -> None:
        """Bring ``files`` into the entry."""
        client = connect(self.config)
        with byte_bar(f"Fetching {self.folder}", sum(file.size for file in files), self.show) as advance:

            async def fetch(file: RemoteFile) -> None:
                await download(client, self.folder, file, entry.files / file.name, advance)

            client.run(each(files, fetch, self.config.max_concurrency))


def _link_known(entry: Entry, files: Sequence[RemoteFile]) -> None:
    """Link the files that other versions of this folder share with this one."""
    for record in entry.root.parent.glob(f"{entry.root.name.partition('-')[0]}-*/{RECORD}"):
        other = Entry(record.parent, record.parent / entry.files.relative_to(entry.root))
        try:
            known = json.loads(record.read_text())["files"]
            for file in files:
                if known.get(file.name) == list(file[1:]) and not (target := entry.files / file.name).exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(other.files / file.name, target)
        except (OSError, ValueError, KeyError):  # it is being removed
            continue
