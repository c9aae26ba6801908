"""How the server's processes end: if one ends, all end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from types import FrameType

from positronic.utils.processes import STOPPING, die_with_parent

JOIN_SEC = 5.0
_forking_pid = 0  # of the process that forks just now


def end_on_signals() -> None:
    """SIGINT and SIGTERM both raise KeyboardInterrupt, once; further signals do not disturb the shutdown.

    LitServe ends cleanly only on KeyboardInterrupt, and a shell starts its background jobs with SIGINT ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    os.register_at_fork(before=_note_parent, after_in_child=_start_as_child)


def end_children() -> None:
    """Stop the child processes that are left."""
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    for child in children:
        child.join(JOIN_SEC)
        if child.is_alive():
            child.kill()


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _note_parent() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


def _start_as_child() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as ``nohup`` leaves it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    die_with_parent(_forking_pid)
