"""Frames of one camera in memory that two processes share: one writes them, the other reads them in the same order.

Why a file without a name: nothing is left of it when its processes end, however they end, and it is not limited by the
size of /dev/shm, which is 64 MB in many containers.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 4096  # a page, so that frames begin at one
TAKEN, FAILED = 0, 1  # the header's numbers, int64


class Ring:
    """``slots`` frames of ``shape``, (H, W, 3), uint8. It may be handed to a process that is being started."""

    def __init__(self, shape: tuple[int, int, int], slots: int, file: int | None = None) -> None:
        self.shape, self.slots = shape, slots
        size = HEADER_BYTES + slots * int(np.prod(shape))
        self._file = _nameless_file(size) if file is None else file
        memory = mmap.mmap(self._file, size)
        self._header = np.frombuffer(memory, np.int64, 2)
        self._frames = np.frombuffer(memory, np.uint8, offset=HEADER_BYTES).reshape(slots, *shape)
        self._given = 0
        if file is None:
            self._frames[:] = 0  # or the control loop would wait for the memory, page by page

    @property
    def waiting(self) -> int:
        """Frames that the other process has not taken yet."""
        return self._given - int(self._header[TAKEN])

    @property
    def has_failed(self) -> bool:
        """Whether the other process has said so."""
        return bool(self._header[FAILED])

    def put(self, image_hwc: NDArray[np.uint8]) -> None:
        """Copy a frame in. The caller has seen that fewer than ``slots`` frames wait."""
        self._frames[self._given % self.slots] = image_hwc
        self._given += 1

    def next_frame(self) -> NDArray[np.uint8]:
        """The oldest frame that was not taken, as it lies in the ring."""
        return self._frames[int(self._header[TAKEN]) % self.slots]

    def taken(self) -> None:
        """The frame is not needed any more."""
        self._header[TAKEN] += 1

    def fail(self, failed: bool = True) -> None:
        """Tell the other process."""
        self._header[FAILED] = failed

    def clear(self) -> None:
        """Begin again, for another process."""
        self._given = 0
        self._header[:] = 0

    def close(self) -> None:
        """Close the file; the memory goes with the last array of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __reduce__(self) -> tuple[Any, ...]:
        return self._received, (reduction.DupFd(self._file), self.shape, self.slots)

    @classmethod
    def _received(cls, file: Any, shape: tuple[int, int, int], slots: int) -> Self:
        return cls(shape, slots, file.detach())


def _nameless_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("positronic-frames")
    else:  # on a Mac
        with tempfile.TemporaryFile() as opened:
            file = os.dup(opened.fileno())
    os.ftruncate(file, size)
    return file
