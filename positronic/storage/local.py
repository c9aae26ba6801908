"""Local folders: where a path leads, and how a folder is published.

A folder is published by renaming: it is built under a hidden name beside its place, ``.<name>.partial``, and appears
complete or not at all. The builder holds a lock on the hidden folder. So the next run can distinguish what a crash left
(and remove it) from what another process is still building (and leave it alone). Nothing is fsynced: after a power cut
a published folder may need to be made again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from positronic.errors import PositronicError
from positronic.storage.uri import LOCAL_SCHEME, S3_SCHEME, SCHEME_SEPARATOR, is_remote
from positronic.utils.locks import lock_if_any

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # from Linux's fcntl.h and fs.h


def local_path(uri: str | Path) -> Path:
    """The local path of a path or ``file://`` URI, ``~`` expanded. Raises PositronicError for another scheme."""
    text = str(uri).removeprefix(LOCAL_SCHEME)
    if SCHEME_SEPARATOR in text or is_remote(text):
        scheme = text.split(":")[0]
        known = f"a local path or {S3_SCHEME}" if scheme != "s3" else "a local path here"
        raise PositronicError(
            f"Cannot open {uri}: expected {known}, found the scheme '{scheme}://'. "
            "Copy it to a local folder and give that folder's path."
        )
    return Path(text).expanduser()


def exists(uri: str | Path) -> bool:
    """Whether there is a file, or a folder with something in it. Raises PositronicError for an unknown scheme."""
    path = local_path(uri)
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def partial_path(uri: str | Path) -> Path:
    """Where the folder ``uri`` is built before it is published: beside it, also when it is reached by a link."""
    path = local_path(uri).resolve()
    return path.with_name(f".{path.name}.partial")


@contextmanager
def publish_folder(uri: str | Path, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill. Leaving the context renames it to ``uri``; an exception removes it.

    Files that a crashed run left are removed first. ``replace``: the new folder replaces an existing one at ``uri``.
    Raises PositronicError when ``uri`` exists (before or after the work) and is not to be replaced, or when another
    process is building it.
    """
    target, partial = local_path(uri).resolve(), partial_path(uri)
    if not replace:
        _refuse_existing(target)
    with _locked_folder(partial):
        try:
            yield partial
            if replace:
                _exchange(partial, target)
            else:
                _rename(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _refuse_existing(target: Path) -> None:
    if exists(target):
        raise PositronicError(f"{target} exists already. Remove it, or write elsewhere with output_dir=...")


def _rename(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            _refuse_existing(target)
        raise


def _exchange(one: Path, other: Path) -> None:
    """Exchange the two names: in one step on Linux, otherwise in three, between which ``other`` is missing."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        swap = None
    if swap is not None and swap(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return
    if not other.exists():
        raise PositronicError(f"{other} was removed meanwhile; nothing was put in its place.")
    aside = Path(tempfile.mkdtemp(prefix=f"{one.name}-replaced-", dir=one.parent))
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


@contextmanager
def _locked_folder(path: Path) -> Iterator[None]:
    """Make ``path`` as an empty folder and hold its lock; a folder whose lock is free is removed first."""
    if path.exists():
        _remove_leftover(path)
    try:
        path.mkdir(parents=True)
    except OSError as error:
        if path.exists():
            raise _busy(path) from None
        raise PositronicError(f"Cannot write into {path.parent}: {error.strerror}. Choose another place.") from None
    with _lock(path):
        yield


def _remove_leftover(path: Path) -> None:
    """Move it away before removing it: a worker that outlived its parent may still be writing there."""
    away = tempfile.TemporaryDirectory(prefix=f"{path.name}-", dir=path.parent, ignore_cleanup_errors=True)
    with _lock(path), away as folder:
        path.rename(Path(folder) / "leftover")


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """The lock goes with the process, so that a crash releases it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock_if_any(descriptor):
            raise _busy(folder)
        yield
    finally:
        os.close(descriptor)


def _busy(folder: Path) -> PositronicError:
    return PositronicError(f"Another process is writing {folder}. Wait for it, or write elsewhere.")
