"""Threads that decode and check observations that may take long, so that the thread that answers need not.

A frame comes from a stranger. The cost of reading it is bounded, but can be far more than that of an honest frame.
Meanwhile the other sessions are answered, and the model computes.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from socket import socketpair
from typing import Any

import numpy as np

from positronic.serving.failures import Failure, attempt
from positronic.serving.messages import Session
from positronic.serving.policy import ServedPolicy, noise_generator
from positronic.utils.msgpack_walk import Buffer
from positronic.utils.serialization import deserialise_lazily

THREADS = 4


@dataclass(frozen=True)
class Observed:
    """A session's observation as the model takes it, or why it cannot be taken. ``generator``: of the random numbers
    that its chunk starts from, if the observation says their seed."""

    session: Session
    policy: ServedPolicy
    encoded: dict[str, Any] | Failure
    generator: np.random.Generator | None = None


class Readers:
    """Reads frames in the order in which they come. When ``fileno`` is readable, ``collect`` has something."""

    def __init__(self, threads: int = THREADS) -> None:
        self._asked: SimpleQueue[tuple[Session, ServedPolicy, Buffer]] = SimpleQueue()
        self._ended: SimpleQueue[Observed] = SimpleQueue()
        self._bell, self._button = socketpair()
        for end in (self._bell, self._button):
            end.setblocking(False)
        for number in range(threads):
            threading.Thread(target=self._run, name=f"reader-{number}", daemon=True).start()

    def fileno(self) -> int:
        return self._bell.fileno()

    def ask(self, session: Session, policy: ServedPolicy, payload: Buffer) -> None:
        """Read a frame for ``policy``."""
        self._asked.put((session, policy, payload))

    def collect(self) -> list[Observed]:
        """What has been read since the last call."""
        self._silence()
        ended = []
        while True:
            try:
                ended.append(self._ended.get_nowait())
            except Empty:
                return ended

    def ring(self) -> None:
        """Make ``fileno`` readable. From any thread."""
        with contextlib.suppress(BlockingIOError):  # it has been rung so often that it cannot be overheard
            self._button.send(b"\0")

    def _silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(1 << 16)

    def _run(self) -> None:
        while True:
            self._read(*self._asked.get())

    def _read(self, session: Session, policy: ServedPolicy, payload: Buffer) -> None:
        self._ended.put(read(session, policy, payload))
        self.ring()


def read(session: Session, policy: ServedPolicy, payload: Buffer) -> Observed:
    """An observation's frame as the model takes it, or why it cannot be taken."""

    def observed(frame: Buffer) -> Observed:
        observation = deserialise_lazily(frame)
        return Observed(session, policy, policy.encode(observation), noise_generator(observation))

    found = attempt(observed, payload)
    return Observed(session, policy, found) if isinstance(found, Failure) else found
