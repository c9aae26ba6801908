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

PAGE = mmap.PAGESIZE  # frames begin at one
INT64_BYTES = 8
GIVEN, TAKEN, FAILED, NUMBERS = range(4)  # the header's numbers, before two for each slot


class Ring:
    """``slots`` frames of ``shape``, (H, W, 3), uint8. It may be handed to a process that is being started."""

    def __init__(self, shape: tuple[int, int, int], slots: int, file: int | None = None) -> None:
        self.shape, self.slots = shape, slots
        header = (NUMBERS + 2 * slots) * INT64_BYTES
        begin = (header + PAGE - 1) // PAGE * PAGE
        size = begin + slots * int(np.prod(shape))
        self._file = _nameless_file(size) if file is None else file
        memory = mmap.mmap(self._file, size)
        self._header = memoryview(memory)[:header].cast("q")
        self._frames = np.frombuffer(memory, np.uint8, offset=begin).reshape(slots, *shape)
        if file is None:
            self._frames[:] = 0  # or the control loop would wait for the memory, page by page

    @property
    def waiting(self) -> int:
        """Frames that the other process has not taken yet."""
        return self._header[GIVEN] - self._header[TAKEN]

    @property
    def has_failed(self) -> bool:
        """Whether the other process has said so."""
        return bool(self._header[FAILED])

    def next_slot(self) -> NDArray[np.uint8]:
        """Where the next frame will be. Fewer than ``slots`` frames wait."""
        return self._frames[self._header[GIVEN] % self.slots]

    def holds(self, image_hwc: NDArray[np.uint8]) -> bool:
        """Whether it is memory of the ring, of whichever frame."""
        return image_hwc.base is self._frames.base

    def copy(self, image_hwc: NDArray[np.uint8], time_ns: int, is_bgr: bool) -> None:
        """Copy a frame in, which the other process sees after ``give``. Fewer than ``slots`` frames wait.

        What is in the ring already is not copied. numpy holds no GIL during a copy; that taking it back is a barrier
        keeps the copy and ``give`` in order on every processor.
        """
        slot = self._header[GIVEN] % self.slots
        if not self.holds(image_hwc):
            self._frames[slot] = image_hwc
        self._header[NUMBERS + 2 * slot] = time_ns
        self._header[NUMBERS + 2 * slot + 1] = is_bgr

    def give(self) -> None:
        """Let the other process see the frame that was copied."""
        self._header[GIVEN] += 1

    def next_frame(self) -> tuple[NDArray[np.uint8], int, bool]:
        """The oldest frame that was not taken, as it lies in the ring; its stamp in ns; whether it is BGR."""
        slot = self._header[TAKEN] % self.slots
        return self._frames[slot], self._header[NUMBERS + 2 * slot], bool(self._header[NUMBERS + 2 * slot + 1])

    def taken(self) -> None:
        """The frame is not needed any more."""
        self._header[TAKEN] += 1

    def fail(self, failed: bool = True) -> None:
        """Tell the other process."""
        self._header[FAILED] = failed

    def clear(self) -> None:
        """Begin again, for another process."""
        for number in range(NUMBERS):
            self._header[number] = 0

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
