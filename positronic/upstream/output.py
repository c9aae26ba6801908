"""What a child prints: lines of it as they come, and the log that keeps them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ENDS = re.compile(rb"\r\n|\r|\n")
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor movements of a terminal
MAX_LINE = 65536  # bytes; what is longer is cut into several
MAX_LOG = 32 * 1024 * 1024  # bytes; then the log begins anew, and the one before stays beside it
OLD = ".1"  # ends the name of the log before


class Lines:
    """Cuts a stream of bytes into lines. A carriage return ends one too: progress bars are rewritten that way."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, said: bytes) -> Iterator[str]:
        """The lines that are complete now, without terminal colours; empty ones are left out."""
        *lines, self._rest = ENDS.split(self._rest + said)
        while len(self._rest) > MAX_LINE:
            lines, self._rest = [*lines, self._rest[:MAX_LINE]], self._rest[MAX_LINE:]
        return (text for text in map(_text, lines) if text)

    def close(self) -> Iterator[str]:
        """The last line, if the stream ended in the middle of it."""
        return self.feed(b"\n")


class Log:
    """A file that lines are appended to, and its predecessor once it became too large. A full disk ends only the
    log."""

    def __init__(self, path: Path, max_bytes: int = MAX_LOG) -> None:
        self.path = path
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, line: str) -> None:
        """Append a line."""
        with suppress(OSError, ValueError):  # ValueError: it could not be opened again
            self._size += self._file.write(line.encode(errors="replace") + b"\n")
            if self._size > self._max_bytes:
                self._file.close()
                os.replace(self.path, f"{self.path}{OLD}")
                self._open()

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def _open(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        self._size = self._file.tell()


def _text(line: bytes) -> str:
    return STYLE.sub("", line.decode(errors="replace")).rstrip()
