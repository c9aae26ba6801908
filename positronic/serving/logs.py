"""The server's log: on stderr, and bounded where strangers can make it speak."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(message)s"
SPEAKERS = (
    "uvicorn.error",
    "asyncio",
    "litserve",
    "litserve.server",
)  # what they say of a request, anybody can ask for
MOST = 10
WINDOW_SEC = 60.0


class Sparing(logging.Filter):
    """Lets at most ``most`` records through from one place in the code within ``WINDOW_SEC``; the next one after that
    says how many were left out. A disk that strangers fill with log lines ends a server too.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most, self._clock = most, clock
        self._windows: dict[tuple[str, int], tuple[float, int]] = {}  # when it began, and how many came
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is let through."""
        place, now_sec = (record.pathname, record.lineno), self._clock()
        with self._lock:
            start_sec, count = self._windows.get(place, (now_sec, 0))
            left_out = 0
            if now_sec - start_sec >= WINDOW_SEC:
                start_sec, left_out, count = now_sec, max(0, count - self._most), 0
            self._windows[place] = (start_sec, count + 1)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like this were left out)", None
        return count < self._most


def spare_libraries() -> None:
    """Bound what the libraries say that speak with strangers, in this process and those that are forked from it."""
    sparing = Sparing()
    for name in SPEAKERS:
        logging.getLogger(name).addFilter(sparing)


def log_to_stderr() -> None:
    """Our own lines, in the worker's process."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
    handler.addFilter(Sparing())
    ours = logging.getLogger("positronic")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False  # libraries configure the root as they please
