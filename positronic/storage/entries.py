"""What this machine keeps of things that lie or were made elsewhere, below a cap, for several processes at once.

Each entry has a lock: shared by its readers, exclusive for whoever fills or removes it. Locks go with their process, so
that a crash leaves nothing locked. An entry counts only if its record is there, which is written last and removed
first: half an entry is never taken for a whole one.

    <cache_dir>/entries/<name>/{entry.json, ...}
    <cache_dir>/entries/<name>.lock
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig
from positronic.utils.disk import FULL
from positronic.utils.locks import Held, try_lock, wait_for_lock

logger = logging.getLogger(__name__)

RETRY_SEC = 0.05  # between looks at an entry that several want to fill

CACHE_VARIABLE = "POSITRONIC_CACHE"
DEFAULT_CACHE = "~/.cache/positronic"
ENTRIES, RECORD, LOCK_SUFFIX = "entries", "entry.json", ".lock"
SIZE = "bytes"  # in a record
GIGABYTE = 10**9
LOOK_AGAIN_SHARE = 0.02  # of the limit; after so many new bytes a process counts again what is there
ELSEWHERE = "The cache can be elsewhere: storage.cache_dir=<folder> (of a raw dataset: dataset.storage.cache_dir)."


class CacheError(PositronicError):
    """The cache cannot be used: there is no room, or no right to write, or files cannot be locked there."""


class Entry(NamedTuple):
    """One thing in the cache. ``files``: where a reader finds it."""

    root: Path
    files: Path

    @property
    def record(self) -> Path:
        """Says what is in a whole entry; its time is that of the last use."""
        return self.root / RECORD

    @property
    def lock(self) -> Path:
        return self.root.with_name(self.root.name + LOCK_SUFFIX)


class Content(Protocol):
    """What an entry is to hold. ``config``: of its cache. ``size``: bytes. ``waiting``: said while another process
    fills it. ``made``: what becomes of it here, as in "must be fetched"."""

    config: StorageConfig
    size: int
    waiting: str
    made: str

    def is_whole(self, entry: Entry) -> bool:
        """Whether every file is there."""
        ...

    def fill(self, entry: Entry) -> dict[str, Any]:
        """Put it into the folder ``entry.files``, which exists. Returns what the record says beside the size."""
        ...


def cache_root(config: StorageConfig) -> Path:
    """Where this machine keeps copies."""
    return Path(config.cache_dir or os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE).expanduser()


def entries_root(config: StorageConfig) -> Path:
    """The folder of entries."""
    return cache_root(config) / ENTRIES


def hold(entry: Entry, content: Content) -> Held:
    """The entry, filled if necessary. It stays while it is held.

    Raises CacheError when the disk is too small or the cache cannot be written, and what ``content`` raises.
    """
    begun = begin(entry, content)
    if isinstance(begun, Held):
        return begun
    try:
        with begun.room_required():
            record = content.fill(entry)
    except BaseException:
        begun.close()
        raise
    return begun.finish(record)


def begin(entry: Entry, content: Content) -> Held | Begun:
    """The entry if it is whole, else the sole right to fill it.

    Raises CacheError when the cache cannot be written.
    """
    try:
        entry.root.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"{entry.root.parent} cannot be made ({error.strerror}). {ELSEWHERE}") from error
    while True:
        descriptor = _lock_shared(entry.lock, content.waiting)
        if _is_whole(entry, content):
            os.utime(entry.record)
            return Held(entry.files, descriptor)
        os.close(descriptor)
        lock = _lock_alone(entry.lock)
        if lock is None:  # others look at it too, or one of them has filled it meanwhile, and may hold it for days
            time.sleep(RETRY_SEC)
            continue
        begun = Begun(entry, content, lock)
        try:
            if not _is_whole(entry, content):
                entry.record.unlink(missing_ok=True)
                entry.files.mkdir(parents=True, exist_ok=True)
                return begun
        except BaseException:
            begun.close()
            raise
        begun.close()  # another process filled it while we waited


class Begun:
    """An entry that this process alone may fill. Until it is finished, it counts for nothing to others, who wait."""

    def __init__(self, entry: Entry, content: Content, descriptor: int) -> None:
        self.entry, self.content = entry, content
        self._lock = Held(entry.files, descriptor)

    @contextmanager
    def room_required(self) -> Iterator[None]:
        """Raises CacheError, and leaves nothing of the entry, when the disk is full: that harms others more than
        filling it again costs us."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            shutil.rmtree(self.entry.root, ignore_errors=True)
            raise _no_room(self.content, self.content.size) from error

    def finish(self, record: Mapping[str, Any]) -> Held:
        """It is whole, and is held. ``record``: what is said of it beside its size."""
        try:
            with self.room_required():
                partial = self.entry.record.with_suffix(".partial")
                partial.write_text(json.dumps({SIZE: self.content.size} | dict(record), indent=1))
                partial.replace(self.entry.record)
        finally:
            self.close()
        return hold(self.entry, self.content)

    def close(self) -> None:
        """Leave it as it is to whoever wants it."""
        self._lock.close()


def _is_whole(entry: Entry, content: Content) -> bool:
    """Somebody may have deleted some of it by hand."""
    try:
        return entry.record.exists() and content.is_whole(entry)
    except OSError:
        return False


def _lock_shared(path: Path, waiting: str) -> int:
    """The descriptor that holds the lock beside others; closing it gives the lock back. Waits while somebody has it
    alone, and says so."""
    while True:
        descriptor = _opened(path)
        try:
            if not try_lock(descriptor, shared=True):
                logger.info(waiting)
                wait_for_lock(descriptor, shared=True)
        except OSError as error:
            os.close(descriptor)
            raise _no_locks(error) from error
        except BaseException:
            os.close(descriptor)
            raise
        if _is_there(path, descriptor):
            return descriptor
        os.close(descriptor)


def _lock_alone(path: Path) -> int | None:
    """The descriptor that holds the lock; None if somebody else has it. Waiting for it could take for ever: who holds
    a whole entry does so as long as it is used."""
    descriptor = _opened(path)
    try:
        if try_lock(descriptor) and _is_there(path, descriptor):
            return descriptor
    except OSError as error:
        os.close(descriptor)
        raise _no_locks(error) from error
    os.close(descriptor)
    return None


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _is_there(path: Path, descriptor: int) -> bool:
    """Otherwise the lock was removed with its entry, and others lock a new file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _no_locks(error: OSError) -> CacheError:
    return CacheError(f"Files cannot be locked here ({error.strerror}). {ELSEWHERE}")


class _Use(NamedTuple):
    """How much space an entry takes, and when it was last used."""

    last_used: float
    size: int
    root: Path


_counted: dict[Path, int] = {}  # cache -> bytes that this process may still add before it counts again


def make_room(needed: int, content: Content, share: float = 1.0) -> None:
    """Remove the entries that were unused for longest until ``needed`` more bytes fit under the limit, and are at most
    ``share`` of what is free on the disk.

    Entries in use stay. Raises CacheError when the disk is too small even so.
    """
    root, cap = cache_root(content.config), int(content.config.cache_gb * GIGABYTE)
    _counted[root] = _counted.get(root, 0) - needed
    if _counted[root] < 0:
        uses, spare = sorted(_uses(root)), int(cap * LOOK_AGAIN_SHARE)
        excess = sum(use.size for use in uses) + needed - cap
        left = _evict(uses, excess + spare) - excess if excess > 0 else -excess
        _counted[root] = min(max(left, 0), spare)
    free, wanted = shutil.disk_usage(root).free, int(needed / share)
    if free < wanted and free + _evict(sorted(_uses(root)), wanted - free) < wanted:
        raise _no_room(content, needed)


def _uses(root: Path) -> list[_Use]:
    with os.scandir(root / ENTRIES) as entries:
        return [_use(Path(entry.path)) for entry in entries if entry.is_dir()]


def _use(root: Path) -> _Use:
    record = root / RECORD
    try:
        return _Use(record.stat().st_mtime, json.loads(record.read_text())[SIZE], root)
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
    descriptor = _opened(lock)
    try:
        if not try_lock(descriptor):
            return False
        (root / RECORD).unlink(missing_ok=True)  # first, because an interrupted removal must not look whole
        shutil.rmtree(root, ignore_errors=True)
        lock.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def _no_room(content: Content, needed: int) -> CacheError:
    root = cache_root(content.config)
    free = shutil.disk_usage(root).free
    return CacheError(
        f"The disk of {root} is full: {needed / GIGABYTE:.3g} GB must be {content.made}, {free / GIGABYTE:.3g} GB are "
        f"free after removing what is not in use. Make room. {ELSEWHERE}"
    )
