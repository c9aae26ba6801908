"""Locks on open files and folders. A lock ends with its process, so a crash leaves nothing locked."""

from __future__ import annotations

import fcntl


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
