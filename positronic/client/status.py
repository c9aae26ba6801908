"""What a person sees while a session opens: one line on stderr that is overwritten."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

OnStatus = Callable[[str, str], None]
"""Called with a status (``connecting``, ``waiting``, ``loading``, ``ready``) and a message for people."""

CLEAR_LINE = "\r\033[K"


def status_line(stream: TextIO | None = None) -> OnStatus:
    """Shows the latest message on ``stream`` (stderr) in one line, which disappears when ready. Shows nothing if it is
    no terminal."""
    stream = stream or sys.stderr
    if not stream.isatty():
        return lambda status, message: None

    def show(status: str, message: str) -> None:
        stream.write(CLEAR_LINE if status == "ready" else f"{CLEAR_LINE}{message or status}")
        stream.flush()

    return show
