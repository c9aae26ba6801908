"""Threads that decode and check observations that may take long, so that the thread that answers need not.

A frame comes from a stranger. The cost of reading it is bounded, but can be far more than that of an honest frame.
Meanwhile the other sessions are answered, and the model computes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from positronic import keys
from positronic.errors import PositronicError
from positronic.serving.failures import Failure, attempt
from positronic.serving.messages import Session
from positronic.serving.policy import ServedPolicy, noise_generator
from positronic.serving.wires import Wire
from positronic.utils.msgpack_walk import Buffer
from positronic.utils.serialization import deserialise_lazily

THREADS = 4


@dataclass(frozen=True)
class Observed:
    """A session's observation as the model takes it, or why it cannot be taken.

    ``generator``: of the random numbers that its chunk starts from, if the observation says their seed. ``within_sec``:
    how long after the observation came a forward pass may begin.
    """

    session: Session
    encoded: dict[str, Any] | Failure
    generator: np.random.Generator | None = None
    within_sec: float = math.inf

    @property
    def is_read(self) -> bool:
        return not isinstance(self.encoded, Failure)


class Readers:
    """Reads frames in the order in which they come. ``ring``: called from a thread when ``collect`` has something."""

    def __init__(self, ring: Callable[[], None], threads: int = THREADS) -> None:
        self._ring = ring
        self._asked: SimpleQueue[tuple[Session, ServedPolicy, Buffer, Wire]] = SimpleQueue()
        self._ended: SimpleQueue[Observed] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=self._run, name=f"reader-{number}", daemon=True).start()

    def ask(self, session: Session, policy: ServedPolicy, payload: Buffer, wire: Wire) -> None:
        """Read a frame for ``policy``."""
        self._asked.put((session, policy, payload, wire))

    def collect(self) -> list[Observed]:
        """What has been read since the last call."""
        ended = []
        while True:
            try:
                ended.append(self._ended.get_nowait())
            except Empty:
                return ended

    def _run(self) -> None:
        while True:
            self._read(*self._asked.get())

    def _read(self, session: Session, policy: ServedPolicy, payload: Buffer, wire: Wire) -> None:
        self._ended.put(read(session, policy, payload, wire))
        self._ring()


def read(session: Session, policy: ServedPolicy, payload: Buffer, wire: Wire) -> Observed:
    """An observation's frame as the model takes it, or why it cannot be taken."""

    def observed(frame: Buffer) -> Observed:
        observation = deserialise_lazily(frame)
        encoded = wire.encode(policy, observation)
        return Observed(session, encoded, noise_generator(observation), patience_sec(observation))

    found = attempt(observed, payload)
    return Observed(session, found) if isinstance(found, Failure) else found


def patience_sec(observation: Mapping[str, Any]) -> float:
    """How long an observation's client wants to wait until its forward pass begins; for ever if it does not say.

    Raises PositronicError if it says anything but a number above 0.
    """
    found = observation.get(keys.ANSWER_WITHIN_SEC, math.inf)
    if isinstance(found, np.generic | np.ndarray) and found.size == 1:
        found = found.item()
    if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
        what = f"{type(found).__name__} {str(found)[:100]}"
        raise PositronicError(f"Observation '{keys.ANSWER_WITHIN_SEC}': expected seconds above 0, found {what}.")
    return float(found)
