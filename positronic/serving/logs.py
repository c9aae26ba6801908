"""The server's log: on stderr, as text or JSON, and bounded where strangers can make it speak."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

TEXT, JSON = "text", "json"
FIELDS = "fields"
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


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (ISO 8601, UTC), ``level``, ``message``, and what the line is about as fields of
    their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = record.getMessage()
        if record.exc_info:
            said = f"{said}\n{self.formatException(record.exc_info)}"
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "message": said, **getattr(record, FIELDS, {})}
        return json.dumps(line, ensure_ascii=False, default=str)


def fields(values: Mapping[str, object]) -> dict[str, object]:
    """What a line is about, as ``extra`` of a call of the logger."""
    return {FIELDS: dict(values)}


def log_to_stderr(log_format: str) -> None:
    """Our own lines, in this process and those that are forked from it. ``log_format``: TEXT or JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == JSON else logging.Formatter(FORMAT, "%H:%M:%S"))
    handler.addFilter(Sparing())
    ours = logging.getLogger("positronic")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False  # libraries configure the root as they please


def library_logging(log_format: str, level: str) -> Mapping[str, Any]:
    """How the libraries' lines are made like ours: uvicorn's ``log_config``. Nothing for text, which is their own."""
    if log_format == TEXT:
        return {}
    quoted = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "log_config": {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonFormatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "loggers": dict.fromkeys(("uvicorn", "litserve"), quoted),
        }
    }
