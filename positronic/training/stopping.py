"""Signals that stop a run while a policy is trained: no step is cut in two, and none that is finished is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from positronic.utils.processes import PRESSED, STOPPING, outlive_terminal


class StoppedError(KeyboardInterrupt):
    """One of ``STOPPING`` came; the checkpoint of the last finished step, if there is one, was written."""


class NoBatchNeededError(KeyboardInterrupt):
    """A signal while no step was under way."""


class Stop:
    """The first signal stops the run after the step under way, so that no step is cut in two, or ends a wait between
    two steps. Ctrl-C after it interrupts at once. ``requested``: whether it came. ``tell``: is called then."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        self.requested, self._tell = False, tell
        self._waits = False

    def request(self, number: int, frame: Any) -> None:
        """Handle signal ``number``."""
        outlive_terminal(number)
        if self.requested:
            if number == PRESSED:
                raise KeyboardInterrupt
            return
        self.requested = True
        self._tell()
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


class PatientStop(Stop):
    """In a process that follows another one, which alone says when all stop, and ends it when it may not wait."""

    def request(self, number: int, frame: Any) -> None:
        """Handle signal ``number``."""
        if not self.requested:
            super().request(number, frame)


@contextmanager
def stop_signals(stop: Stop | None = None) -> Iterator[Stop]:
    """Inside, the signals that stop a run are those of the object that it gives."""
    stop = stop or Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    # Started with ``nohup``, or by one that hears SIGUSR2 itself and then sends SIGTERM.
    deaf = [number for number in (signal.SIGHUP, signal.SIGUSR2) if signal.getsignal(number) is signal.SIG_IGN]
    ours = [number for number in STOPPING if number not in deaf]
    before = {number: signal.signal(number, stop.request) for number in ours}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
