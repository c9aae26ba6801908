"""Ctrl-C, SIGTERM and SIGHUP while a policy is trained: no step is cut in two, and none that is finished is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from positronic.utils.processes import STOPPING, outlive_terminal


class StoppedError(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP; the checkpoint of the last finished step, if there is one, was written."""


class NoBatchNeededError(KeyboardInterrupt):
    """A signal while no step was under way."""


class Stop:
    """The first signal stops the run after the step under way, so that no step is cut in two, or ends a wait between
    two steps. The second one interrupts at once. ``requested``: whether it came."""

    def __init__(self) -> None:
        self.requested = False
        self._waits = False

    def request(self, number: int, frame: Any) -> None:
        """Handle signal ``number``."""
        outlive_terminal(number)
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._waits:
            raise NoBatchNeededError

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside, the first signal raises NoBatchNeededError; so does entering after it."""
        try:
            self._waits = True  # before the look: a signal between the two is heard
            if self.requested:
                raise NoBatchNeededError
            yield
        finally:
            self._waits = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Inside, the signals that stop a run are those of the object that it gives."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    without_hup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # started with ``nohup``
    ours = [number for number in STOPPING if number != signal.SIGHUP or not without_hup]
    before = {number: signal.signal(number, stop.request) for number in ours}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
