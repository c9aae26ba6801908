"""Memory that other processes of this machine can look into, by a path."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path


class SharedBytes:
    """``size`` bytes, zero at first. ``path``: what other processes map, as long as this object lives.

    On Linux it is memory without a name in the file system, which the limit of ``/dev/shm`` does not count; elsewhere
    it is a temporary file.
    """

    def __init__(self, size: int) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor, self._file = os.memfd_create("positronic"), None
            self.path = Path(f"/proc/{os.getpid()}/fd/{self._descriptor}")
        else:
            self._descriptor, name = tempfile.mkstemp(prefix="positronic_")
            self.path = self._file = Path(name)
        os.ftruncate(self._descriptor, size)
        self.bytes = mmap.mmap(self._descriptor, size)

    def __del__(self) -> None:
        os.close(self._descriptor)  # the mapping stays as long as an array is on it
        if self._file is not None:
            self._file.unlink(missing_ok=True)
