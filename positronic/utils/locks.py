"""Locks on open files and folders. A lock goes with its process, so that a crash leaves nothing locked."""

from __future__ import annotations

import fcntl


def try_lock(descriptor: int, shared: bool = False) -> bool:
    """Whether the lock is ours now; False when another process has it. Closing the descriptor gives it back.

    Raises OSError where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, _mode(shared) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int, shared: bool = False) -> None:
    """Like ``try_lock``, but come back when the lock is ours."""
    fcntl.flock(descriptor, _mode(shared))


def _mode(shared: bool) -> int:
    return fcntl.LOCK_SH if shared else fcntl.LOCK_EX
