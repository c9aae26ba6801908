"""Local copies of remote folders, below a cap, for several processes at once.

An entry is one version of one folder: the files that were asked for, with their sizes and etags. A changed folder is
another entry, so that a process that reads the old one keeps it; files that did not change are linked, not fetched
again. Each entry has a lock: shared by its readers, exclusive for whoever fills or removes it. Locks go with their
process, so that a crash leaves nothing locked, and what it had fetched is where the next one goes on.

    <cache_dir>/entries/<folder's hash>-<version's hash>/{entry.json, files/<bucket>/<folder...>}
    <cache_dir>/entries/<folder's hash>-<version's hash>.lock
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from positronic.errors import PositronicError
from positronic.storage.client import RemoteFile, connect, each
from positronic.storage.config import StorageConfig, endpoint_of
from positronic.storage.progress import byte_bar
from positronic.storage.transfer import download
from positronic.storage.uri import S3Uri
from positronic.utils.disk import FULL
from positronic.utils.locks import try_lock, wait_for_lock

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "POSITRONIC_CACHE"
DEFAULT_CACHE = "~/.cache/positronic"
ENTRIES, FILES, RECORD, LOCK_SUFFIX = "entries", "files", "entry.json", ".lock"
GIGABYTE = 10**9
LOOK_AGAIN_SHARE = 0.02  # of the limit; after so many new bytes a process counts again what is there
ELSEWHERE = "The cache can be elsewhere: storage.cache_dir=<folder> (of a raw dataset: dataset.storage.cache_dir)."


class Held:
    """A local copy that is in use. It stays until ``close``, or until nothing refers to this object any more."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._release = weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """From now on the copy may be removed."""
        self._release()


class Entry(NamedTuple):
    """One version of one folder in the cache. ``files``: where its files are."""

    root: Path
    files: Path

    @property
    def record(self) -> Path:
        """Says what is in a whole entry; its time is that of the last use."""
        return self.root / RECORD

    @property
    def lock(self) -> Path:
        return self.root.with_name(self.root.name + LOCK_SUFFIX)


def cache_root(config: StorageConfig) -> Path:
    """Where this machine keeps copies."""
    return Path(config.cache_dir or os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE).expanduser()


def hold(folder: S3Uri, files: Sequence[RemoteFile], config: StorageConfig, show: bool = False) -> Held:
    """These files of ``folder`` on the local disk. They are fetched if necessary, and stay while they are held.

    Raises PreconditionError or MissingError when the folder has changed since it was listed, PositronicError when the
    disk is too small, the cache cannot be written, or the store cannot be reached.
    """
    entry = entry_of(folder, files, config)
    try:
        entry.root.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PositronicError(_no_cache(entry.root.parent, error)) from error
    while True:
        descriptor = _lock(entry.lock, shared=True)
        if _is_whole(entry, files):
            os.utime(entry.record)
            return Held(entry.files, descriptor)
        os.close(descriptor)
        _fill(entry, folder, files, config, show)


def entry_of(folder: S3Uri, files: Sequence[RemoteFile], config: StorageConfig) -> Entry:
    """Where this version of the folder is, or will be."""
    name = _digest([endpoint_of(config), str(folder)]) + "-" + _digest([list(file) for file in sorted(files)])
    root = cache_root(config) / ENTRIES / name
    return Entry(root, root.joinpath(FILES, folder.bucket, *folder.key.split("/")))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _is_whole(entry: Entry, files: Sequence[RemoteFile]) -> bool:
    """Whether every file is there; somebody may have deleted some by hand."""
    try:
        return entry.record.exists() and all((entry.files / f.name).stat().st_size == f.size for f in files)
    except OSError:
        return False


def _fill(entry: Entry, folder: S3Uri, files: Sequence[RemoteFile], config: StorageConfig, show: bool) -> None:
    descriptor = _lock(entry.lock, waiting=f"Another process fetches {folder}; waiting for it.")
    try:
        if _is_whole(entry, files):
            return
        entry.record.unlink(missing_ok=True)
        entry.files.mkdir(parents=True, exist_ok=True)
        _link_known(entry, files)
        missing = [file for file in files if not (entry.files / file.name).exists()]
        _make_room(sum(file.size for file in missing), config)
        _fetch(entry, folder, missing, config, show)
        record = {"uri": str(folder), "bytes": sum(f.size for f in files), "files": {f.name: f[1:] for f in files}}
        partial = entry.record.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1))
        partial.replace(entry.record)
    except OSError as error:
        if error.errno in FULL:
            shutil.rmtree(entry.root, ignore_errors=True)  # a full disk harms others more than checking costs us
            raise _no_room(sum(file.size for file in files), config) from error
        raise
    finally:
        os.close(descriptor)


def _fetch(entry: Entry, folder: S3Uri, files: Sequence[RemoteFile], config: StorageConfig, show: bool) -> None:
    client = connect(config)
    with byte_bar(f"Fetching {folder}", sum(file.size for file in files), show) as advance:

        async def fetch(file: RemoteFile) -> None:
            await download(client, folder, file, entry.files / file.name, advance)

        client.run(each(files, fetch, config.max_concurrency))


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


def _lock(path: Path, shared: bool = False, waiting: str = "") -> int:
    """The descriptor that holds the lock; closing it gives the lock back."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _acquire(descriptor, shared, waiting)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor  # otherwise it was removed with its entry, and others lock a new file
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _acquire(descriptor: int, shared: bool, waiting: str) -> None:
    try:
        if not try_lock(descriptor, shared):
            if waiting:
                logger.info(waiting)
            wait_for_lock(descriptor, shared)
    except OSError as error:
        raise PositronicError(f"Files cannot be locked here ({error.strerror}). {ELSEWHERE}") from error


class _Use(NamedTuple):
    """How much space an entry takes, and when it was last used."""

    last_used: float
    size: int
    root: Path


_counted: dict[Path, int] = {}  # cache -> bytes that this process may still add before it counts again


def _make_room(needed: int, config: StorageConfig) -> None:
    """Remove the entries that were unused for longest until ``needed`` more bytes fit under the limit and on the disk.

    Entries in use stay. Raises PositronicError when the disk is too small even so.
    """
    root, cap = cache_root(config), int(config.cache_gb * GIGABYTE)
    _counted[root] = _counted.get(root, 0) - needed
    if _counted[root] < 0:
        uses, spare = sorted(_uses(root)), int(cap * LOOK_AGAIN_SHARE)
        excess = sum(use.size for use in uses) + needed - cap
        left = _evict(uses, excess + spare) - excess if excess > 0 else -excess
        _counted[root] = min(max(left, 0), spare)
    free = shutil.disk_usage(root).free
    if free < needed and free + _evict(sorted(_uses(root)), needed - free) < needed:
        raise _no_room(needed, config)


def _uses(root: Path) -> list[_Use]:
    with os.scandir(root / ENTRIES) as entries:
        return [_use(Path(entry.path)) for entry in entries if entry.is_dir()]


def _use(root: Path) -> _Use:
    record = root / RECORD
    try:
        return _Use(record.stat().st_mtime, json.loads(record.read_text())["bytes"], root)
    except (OSError, ValueError):  # it is not whole
        return _Use(_mtime(root), sum(_size(path) for path in root.rglob("*")), root)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _size(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512 if path.is_file() else 0
    except OSError:
        return 0


def _evict(uses: Sequence[_Use], excess: int) -> int:
    """Remove entries in this order until ``excess`` bytes are freed. Returns how many are."""
    freed = 0
    for use in uses:
        if freed >= excess:
            break
        freed += use.size if _remove(use.root) else 0
    return freed


def _remove(root: Path) -> bool:
    """Remove an entry unless somebody uses it."""
    lock = Entry(root, root).lock
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not try_lock(descriptor):
            return False
        (root / RECORD).unlink(missing_ok=True)  # first, because an interrupted removal must not look whole
        shutil.rmtree(root, ignore_errors=True)
        lock.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def _no_cache(path: Path, error: OSError) -> str:
    return f"{path} cannot be made ({error.strerror}). {ELSEWHERE}"


def _no_room(needed: int, config: StorageConfig) -> PositronicError:
    root = cache_root(config)
    free = shutil.disk_usage(root).free
    return PositronicError(
        f"The disk of {root} is full: {needed / GIGABYTE:.3g} GB must be fetched, {free / GIGABYTE:.3g} GB are free "
        f"after removing what is not in use. Make room. {ELSEWHERE}"
    )
