"""How the threads of a worker wake the one that polls."""

from __future__ import annotations

import contextlib
from socket import socketpair


class Bell:
    """``fileno`` is readable from a ``ring`` until it is silenced."""

    def __init__(self) -> None:
        self._bell, self._button = socketpair()
        for end in (self._bell, self._button):
            end.setblocking(False)

    def fileno(self) -> int:
        return self._bell.fileno()

    def ring(self) -> None:
        """From any thread."""
        with contextlib.suppress(BlockingIOError):  # it has been rung so often that it cannot be overheard
            self._button.send(b"\0")

    def silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(1 << 16)
