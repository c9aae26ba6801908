"""How the server's processes end: all of them, whatever ends the first."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h
JOIN_SEC = 5.0


def end_on_signals() -> None:
    """SIGINT and SIGTERM both raise KeyboardInterrupt, once; what follows is not disturbed by more of them.

    LitServe ends cleanly on KeyboardInterrupt only, and a shell's background job is started with SIGINT ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    os.register_at_fork(after_in_child=_start_as_child)


def die_with_parent() -> None:
    """This process is killed when its parent ends, however that happens. On Linux; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _start_as_child() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
