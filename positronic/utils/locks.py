"""Locks on open files and folders. A lock ends with its process, so a crash leaves nothing locked."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Held:
    """Something at ``path`` that is in use, until ``close``, or until nothing refers to this object any more."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._release = weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """From now on it may be removed."""
        self._release()


def hold_folder(path: Path) -> Held | None:
    """Whoever asks for the lock of this folder does not get it meanwhile. None when there is no such folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    with suppress(OSError):  # a file system without locks
        wait_for_lock(descriptor, shared=True)
    if path.is_dir() and os.path.samestat(os.fstat(descriptor), path.stat()):
        return Held(path, descriptor)
    os.close(descriptor)  # it was removed meanwhile
    return None


@contextmanager
def open_folder(path: Path) -> Iterator[int | None]:
    """A descriptor of the folder inside the context; None when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock_if_any(descriptor: int) -> bool:
    """Like ``try_lock``; True where the file system has no locks."""
    try:
        return try_lock(descriptor)
    except OSError:
        return True


def try_lock(descriptor: int, shared: bool = False) -> bool:
    """Whether we have the lock now; False when another process has it. Closing the descriptor releases it.

    Raises OSError where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, _mode(shared) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int, shared: bool = False) -> None:
    """Like ``try_lock``, but waits until we have the lock."""
    fcntl.flock(descriptor, _mode(shared))


def _mode(shared: bool) -> int:
    return fcntl.LOCK_SH if shared else fcntl.LOCK_EX
