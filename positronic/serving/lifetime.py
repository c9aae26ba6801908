"""How the server's processes end: if the main one ends, all end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from types import FrameType

from positronic.utils.processes import STOPPING, die_with_parent

JOIN_SEC = 5.0
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
_forking_pid = 0  # of the process that forks just now


def end_on_signals() -> None:
    """SIGINT, SIGTERM and SIGUSR2 raise KeyboardInterrupt, at most twice: the first asks the server to finish its
    answers, the second to end at once. Further signals do not disturb the shutdown.

    LitServe ends cleanly only on KeyboardInterrupt, and a shell starts its background jobs with SIGINT ignored.
    """
    for number in ASKING:
        signal.signal(number, _interrupt)
    os.register_at_fork(before=_note_parent, after_in_child=_start_as_child)


def end_children() -> None:
    """Kill the child processes that are left."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join(JOIN_SEC)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in STOPPING:
        signal.signal(each, _end_at_once if each in ASKING else signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_at_once(number: int, frame: FrameType | None) -> None:
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _note_parent() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


def _start_as_child() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler sends it to all
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as ``nohup`` leaves it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    die_with_parent(_forking_pid)
