"""Forward passes, one at a time, in a thread of their own, so that frames are read and answers sent meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from positronic.serving.failures import Failure
from positronic.serving.line import Line
from positronic.serving.readers import Observed


@dataclass(frozen=True)
class Pass:
    """One forward pass. ``chunks``: for each observation of ``batch`` what the model said, or why it said nothing."""

    line: Line
    batch: Sequence[Observed]
    chunks: Sequence[NDArray[np.float32] | Failure]
    seconds: float


class Passes:
    """Computes passes. ``ring`` is called from the thread when one has ended; then ``collect`` has it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._begun: SimpleQueue[tuple[Line, list[Observed], list[np.random.Generator]]] = SimpleQueue()
        self._ended: SimpleQueue[Pass] = SimpleQueue()
        self.under_way: frozenset[bytes] = frozenset()
        self.free_since = 0.0
        threading.Thread(target=self._run, name="forward", daemon=True).start()

    def begin(self, line: Line, batch: list[Observed], generators: list[np.random.Generator]) -> None:
        """Compute in the thread."""
        self.under_way = frozenset(each.session for each in batch)
        self._begun.put((line, batch, generators))

    def collect(self) -> Pass | None:
        """The pass that has ended, if one has."""
        try:
            ended = self._ended.get_nowait()
        except Empty:
            return None
        self.under_way, self.free_since = frozenset(), time.monotonic()
        return ended

    def _run(self) -> None:
        while True:
            self._ended.put(compute(*self._begun.get()))
            self._ring()


def compute(line: Line, batch: list[Observed], generators: list[np.random.Generator]) -> Pass:
    """One forward pass, here and now."""
    begin = time.monotonic()
    chunks = line.policy.chunks_each([each.encoded for each in batch], generators)
    return Pass(line, batch, chunks, time.monotonic() - begin)
