"""Which checkpoints are in memory, which sessions use them, and which wait for another.

A session keeps the checkpoint that it was opened with, which stays in memory as long as the session lives. So nobody is
ever answered by another checkpoint. Sessions on a loaded checkpoint open at once. Another one is loaded beside those
that are there if there is memory for it; those that no session uses make room, the one that was used longest ago first.
Otherwise who asked waits until other sessions have ended; after ``FAIR_SEC`` new sessions on the others wait for that
too, since their sessions might overlap for ever. One checkpoint is loaded at a time.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from positronic import keys
from positronic.errors import PositronicError, listing
from positronic.serving.failures import Failure, describe, failed
from positronic.serving.memory import Memory, freeze_libraries, give_back
from positronic.serving.messages import Session
from positronic.serving.policy import ServedPolicy

logger = logging.getLogger(__name__)

LOADING, LOADED, FAILED = "loading", "loaded", "failed"
FAIR_SEC = 60.0  # that a checkpoint waits for memory before new sessions on others wait for it


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


@dataclass(frozen=True)
class Wanted:
    """A checkpoint that somebody waits for. ``needs``: bytes of memory that it will take at least. ``since_sec``: when
    they asked."""

    checkpoint: str
    needs: int
    since_sec: float


@dataclass(frozen=True)
class Resident:
    """A policy in memory, and how many bytes it takes there."""

    policy: ServedPolicy
    takes: int


@dataclass(frozen=True)
class Counts:
    """What a store has done, and what it holds now. ``default``: how far the preloaded checkpoint is, LOADING, LOADED
    or FAILED."""

    loaded: int
    failed: int
    evicted: int
    in_memory: int
    bytes_in_memory: int
    default: str


class PolicyStore:
    """Loads checkpoints in a thread, everything else happens in the caller's. Each call returns what sessions are told.

    ``load``: checkpoint id to policy. ``wake``: called from the thread when a load has ended; then call ``collect``.
    ``memory``: how much there is for policies. ``clock``: in seconds.
    """

    def __init__(
        self,
        load: Callable[[str], ServedPolicy],
        wake: Callable[[], None],
        memory: Memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._wake, self._memory, self._clock = load, wake, memory, clock
        self._residents: dict[str, Resident] = {}  # the one that was used longest ago first
        self._loading: str | None = None
        self._ended: SimpleQueue[tuple[str, Resident | Failure]] = SimpleQueue()
        self._holders: dict[Session, tuple[str, ServedPolicy]] = {}
        self._waiters: dict[Session, Wanted] = {}
        self._told: dict[Session, Waiting] = {}
        self._default = ""
        self._last_loads: dict[str, str] = {}  # how the last load of each checkpoint ended
        self._loaded = self._failed = self._evicted = 0

    def counts(self) -> Counts:
        """Since the beginning."""
        held = len(self._residents), self._total(), self._last_loads.get(self._default, LOADING)
        return Counts(self._loaded, self._failed, self._evicted, *held)

    def open(self, session: Session, checkpoint: str, needs: int = 0) -> list[Event]:
        """A session asks for a checkpoint, which will take at least ``needs`` bytes."""
        self._waiters[session] = Wanted(checkpoint, needs, self._clock())
        return self._advance()

    def close(self, session: Session) -> list[Event]:
        """A session has ended, or no longer waits."""
        if session in self._holders:
            self._use(self._holders.pop(session)[0])
        for table in (self._waiters, self._told):
            table.pop(session, None)
        return self._advance()

    def policy(self, session: Session) -> ServedPolicy | None:
        """What the session holds."""
        return self._holders[session][1] if session in self._holders else None

    def preload(self, checkpoint: str, needs: int = 0) -> None:
        """Begin loading before anybody asks."""
        self._default = checkpoint
        self._begin(Wanted(checkpoint, needs, self._clock()), [])

    def collect(self) -> list[Event]:
        """Take up the loads that have finished."""
        events: list[Event] = []
        while (ended := self._next_ended()) is not None:
            checkpoint, result = ended
            self._loading = None
            if isinstance(result, Failure):
                self._failed += 1
                self._last_loads[checkpoint] = FAILED
                events += self._refuse(checkpoint, result)
            else:
                self._loaded += 1
                self._last_loads[checkpoint] = LOADED
                self._residents[checkpoint] = result
        events += self._admit()
        self._discard_more_than_fits()
        return events + self._advance()

    def _advance(self) -> list[Event]:
        self._begin_next(self._clock() - FAIR_SEC)  # before others take what these wait for
        opened = self._admit()
        self._begin_next()
        return opened + self._tell_waiters()

    def _begin_next(self, latest_sec: float = math.inf) -> None:
        """Load for the first for whom there is room, of those who have asked before ``latest_sec``."""
        for wanted in self._missing() if self._loading is None else ():
            unused = self._that_make_room(wanted.needs)
            if wanted.since_sec < latest_sec and unused is not None:
                self._begin(wanted, self._take_out(unused))
                return

    def _missing(self) -> list[Wanted]:
        """What is waited for and neither there nor being loaded."""
        there = {*self._residents, self._loading}
        return [wanted for wanted in self._waiters.values() if wanted.checkpoint not in there]

    def _admit(self) -> list[Event]:
        events: list[Event] = []
        if self._starving() is not None:
            return events
        for session, wanted in list(self._waiters.items()):
            if wanted.checkpoint in self._residents:
                policy = self._use(wanted.checkpoint).policy
                del self._waiters[session]
                self._told.pop(session, None)
                self._holders[session] = (wanted.checkpoint, policy)
                events.append(Opened(session, policy))
        return events

    def _starving(self) -> str | None:
        """The checkpoint that has waited for memory for too long, if one has."""
        latest_sec = self._clock() - FAIR_SEC
        for wanted in self._missing():
            if wanted.since_sec < latest_sec and self._that_make_room(wanted.needs) is None:
                return wanted.checkpoint
        return None

    def _use(self, checkpoint: str) -> Resident:
        """It is the last that will have to go."""
        self._residents[checkpoint] = resident = self._residents.pop(checkpoint)
        return resident

    def _that_make_room(self, needs: int) -> list[str] | None:
        """Those to take out before ``needs`` bytes are loaded; None if there is no room whatever is taken out.

        A checkpoint that is too large for the memory is tried when nothing else is there: it says better itself what it
        lacks.
        """
        unused, total = self._unused(), self._total()
        for count in range(len(unused) + 1):
            gone = sum(self._residents[each].takes for each in unused[:count])
            if count == len(self._residents) or self._memory.has_room(needs, total - gone, gone):
                return unused[:count]
        return None

    def _discard_more_than_fits(self) -> None:
        """One that was loaded may take more than its files. The newest stays, however large it is."""
        closed: list[ServedPolicy] = []
        for checkpoint in self._unused():
            if len(self._residents) == 1 or self._memory.holds(self._total()):
                break
            closed += self._take_out([checkpoint])
        if closed:
            threading.Thread(target=_close, args=(closed,), name="unload", daemon=True).start()

    def _unused(self) -> list[str]:
        held = self._held()
        return [checkpoint for checkpoint in self._residents if checkpoint not in held]

    def _total(self) -> int:
        return sum(each.takes for each in self._residents.values())

    def _take_out(self, checkpoints: Sequence[str]) -> list[ServedPolicy]:
        self._evicted += len(checkpoints)
        return [self._residents.pop(each).policy for each in checkpoints]

    def _held(self) -> set[str]:
        return {checkpoint for checkpoint, _ in self._holders.values()}

    def _refuse(self, checkpoint: str, failure: Failure) -> list[Event]:
        reason = f"Checkpoint {checkpoint} cannot be loaded: {failure.reason}"
        refused = [session for session, wanted in self._waiters.items() if wanted.checkpoint == checkpoint]
        for session in refused:
            del self._waiters[session]
            self._told.pop(session, None)
        return [Refused(session, reason) for session in refused]

    def _tell_waiters(self) -> list[Event]:
        news = [self._waiting(session, wanted.checkpoint) for session, wanted in self._waiters.items()]
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
        if wanted in self._residents:
            said = f"Checkpoint {wanted} waits until checkpoint {self._starving()} is loaded, which has waited longer"
            return Waiting(session, keys.STATUS_WAITING, said)
        busy = listing(sorted(self._held()))
        message = f"Checkpoint {wanted} waits for memory, until the sessions with checkpoint {busy} have ended"
        return Waiting(session, keys.STATUS_WAITING, message)

    def _begin(self, wanted: Wanted, unused: list[ServedPolicy]) -> None:
        self._loading = wanted.checkpoint
        name = f"load-{wanted.checkpoint}"
        threading.Thread(target=self._run, args=(wanted, unused), name=name, daemon=True).start()

    def _run(self, wanted: Wanted, unused: list[ServedPolicy]) -> None:
        checkpoint, start_sec = wanted.checkpoint, time.monotonic()
        try:
            _close(unused)  # their memory, before their successor asks for as much
            before = self._memory.in_use()
            policy = self._load(checkpoint)
            freeze_libraries()
            result: Resident | Failure = Resident(policy, max(wanted.needs, self._memory.in_use() - before))
            logger.info("Checkpoint %s is loaded (%.1f s)", checkpoint, time.monotonic() - start_sec)
        except BaseException as error:  # a thread that ended in another way would leave its sessions waiting for ever
            ours = isinstance(error, PositronicError)
            logger.error(
                "Checkpoint %s cannot be loaded: %s", checkpoint, describe(error), exc_info=None if ours else error
            )
            result = failed(error)
            give_back()
        self._ended.put((checkpoint, result))
        self._wake()

    def _next_ended(self) -> tuple[str, Resident | Failure] | None:
        try:
            return self._ended.get_nowait()
        except Empty:
            return None


def _close(policies: list[ServedPolicy]) -> None:
    """End them, and forget them: nothing keeps their memory."""
    if not policies:
        return
    while policies:
        try:
            policies.pop().model.close()
        except Exception:  # foreign code; the checkpoint that is to be loaded next must not fail for it
            logger.exception("A checkpoint's model could not be ended")
    give_back()
