"""Which checkpoint is in memory, which sessions use it, and which wait for another.

There is one checkpoint at a time. A session keeps the checkpoint that it was opened with, which stays in memory as long
as the session lives. So nobody is ever answered by another checkpoint. Sessions on the loaded checkpoint open at once.
When no session uses it any more, the first in the queue for another one gets that.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from positronic import keys
from positronic.errors import PositronicError
from positronic.serving.failures import Failure, describe, failed
from positronic.serving.messages import Session
from positronic.serving.policy import ServedPolicy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """The session waits; ``status`` is ``waiting`` or ``loading``."""

    session: Session
    status: str
    message: str


@dataclass(frozen=True)
class Opened:
    """The session holds its policy from now on."""

    session: Session
    policy: ServedPolicy


@dataclass(frozen=True)
class Refused:
    """The session's checkpoint cannot be loaded."""

    session: Session
    reason: str


Event = Waiting | Opened | Refused


class PolicyStore:
    """Loads checkpoints in a thread, everything else happens in the caller's. Each call returns what sessions are told.

    ``load``: checkpoint id to policy. ``wake``: called from the thread when a load has ended; then call ``collect``.
    """

    def __init__(self, load: Callable[[str], ServedPolicy], wake: Callable[[], None]) -> None:
        self._load, self._wake = load, wake
        self._loaded: tuple[str, ServedPolicy] | None = None
        self._loading: str | None = None
        self._ended: SimpleQueue[tuple[str, ServedPolicy | Failure]] = SimpleQueue()
        self._holders: dict[Session, ServedPolicy] = {}
        self._waiters: dict[Session, str] = {}
        self._told: dict[Session, Waiting] = {}

    def open(self, session: Session, checkpoint: str) -> list[Event]:
        """A session asks for a checkpoint."""
        self._waiters[session] = checkpoint
        return self._advance()

    def close(self, session: Session) -> list[Event]:
        """A session has ended, or no longer waits."""
        for table in (self._holders, self._waiters, self._told):
            table.pop(session, None)
        return self._advance()

    def policy(self, session: Session) -> ServedPolicy | None:
        """What the session holds."""
        return self._holders.get(session)

    def preload(self, checkpoint: str) -> None:
        """Begin loading before anybody asks."""
        self._begin(checkpoint)

    def collect(self) -> list[Event]:
        """Take up the loads that have finished."""
        events: list[Event] = []
        while (ended := self._next_ended()) is not None:
            checkpoint, result = ended
            self._loading = None
            if isinstance(result, Failure):
                events += self._refuse(checkpoint, result)
            else:
                self._loaded = (checkpoint, result)
        return events + self._advance()

    def _advance(self) -> list[Event]:
        opened = self._admit()
        if self._waiters and self._loading is None and not self._holders:
            self._begin(next(iter(self._waiters.values())))
        return opened + self._tell_waiters()

    def _admit(self) -> list[Event]:
        if self._loaded is None:
            return []
        checkpoint, policy = self._loaded
        admitted = [session for session, wanted in self._waiters.items() if wanted == checkpoint]
        for session in admitted:
            del self._waiters[session]
            self._told.pop(session, None)
            self._holders[session] = policy
        return [Opened(session, policy) for session in admitted]

    def _refuse(self, checkpoint: str, failure: Failure) -> list[Event]:
        reason = f"Checkpoint {checkpoint} cannot be loaded: {failure.reason}"
        refused = [session for session, wanted in self._waiters.items() if wanted == checkpoint]
        for session in refused:
            del self._waiters[session]
            self._told.pop(session, None)
        return [Refused(session, reason) for session in refused]

    def _tell_waiters(self) -> list[Event]:
        news = [self._waiting(session, wanted) for session, wanted in self._waiters.items()]
        news = [event for event in news if self._told.get(event.session) != event]
        self._told |= {event.session: event for event in news}
        return list(news)

    def _waiting(self, session: Session, wanted: str) -> Waiting:
        if wanted == self._loading:
            return Waiting(session, keys.STATUS_LOADING, f"Loading checkpoint {wanted}")
        if self._loading is not None:
            return Waiting(
                session, keys.STATUS_WAITING, f"Checkpoint {wanted} waits until checkpoint {self._loading} is loaded"
            )
        busy = self._loaded[0] if self._loaded else "another"
        message = f"Checkpoint {wanted} waits until the sessions with checkpoint {busy} have ended"
        return Waiting(session, keys.STATUS_WAITING, message)

    def _begin(self, checkpoint: str) -> None:
        if self._loaded is not None:
            self._loaded[1].model.close()
        self._loaded = None
        self._loading = checkpoint
        threading.Thread(target=self._run, args=(checkpoint,), name=f"load-{checkpoint}", daemon=True).start()

    def _run(self, checkpoint: str) -> None:
        gc.collect()  # the evicted model's memory, before its successor asks for as much
        start_sec = time.monotonic()
        try:
            result: ServedPolicy | Failure = self._load(checkpoint)
            logger.info("Checkpoint %s is loaded (%.1f s)", checkpoint, time.monotonic() - start_sec)
        except BaseException as error:  # a thread that ended in another way would leave its sessions waiting for ever
            ours = isinstance(error, PositronicError)
            logger.error(
                "Checkpoint %s cannot be loaded: %s", checkpoint, describe(error), exc_info=None if ours else error
            )
            result = failed(error)
        self._ended.put((checkpoint, result))
        self._wake()

    def _next_ended(self) -> tuple[str, ServedPolicy | Failure] | None:
        try:
            return self._ended.get_nowait()
        except Empty:
            return None
