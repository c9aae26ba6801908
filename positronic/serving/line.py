"""The observations that wait for one policy, and how long they wait for others to share their forward pass."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from positronic.serving.messages import Session
from positronic.serving.policy import ServedPolicy
from positronic.serving.readers import Observed
from positronic.serving.rhythm import Rhythm

EVEN = 0.5  # of a pass: pauses that differ by more say nothing
READ_SEC = 0.004  # for frames that are being read: an honest one takes less
MARGIN_SEC = 0.002  # before an observation expires: the clock of the worker's waiting has steps of a millisecond
RECENT, KNOWN = 5, 3  # the passes that are remembered, and how many say what one takes


@dataclass(frozen=True)
class _Waiting:
    observed: Observed
    asked: float


class Line:
    """The sessions that hold ``policy``. ``most``: observations in one forward pass. Times are seconds of one clock.

    A pass begins as soon as everybody is in who is about to ask. A robot is about to ask if it does so at an even pace
    and its time has come, or if its frame is being read. Those that are in wait for it only as long as that costs them
    less in all than it saves those to come: for ``k`` robots ``n`` wait at most ``k / (n + k)`` of a pass, because
    otherwise each of the ``k`` would wait until the pass of the ``n`` has ended. So a lone robot never waits, nor do
    several that are out of step.
    """

    def __init__(self, policy: ServedPolicy, most: int) -> None:
        self.policy, self._most = policy, most
        self._rhythms: dict[Session, Rhythm] = {}
        self._asked: dict[Session, float] = {}  # of frames that are being read
        # Their last frame was no observation, so the others do not wait for the next one.
        self._clumsy: set[Session] = set()
        self._waiting: dict[Session, _Waiting] = {}
        self._recent_sec: deque[float] = deque(maxlen=RECENT)
        self._pass_sec = 0.0  # the shortest of the recent ones: a single slow one makes nobody wait

    @property
    def is_wanted(self) -> bool:
        """Whether an observation waits."""
        return bool(self._waiting)

    @property
    def queued(self) -> int:
        """Observations that wait."""
        return len(self._waiting)

    @property
    def oldest(self) -> float:
        """When the first of those that wait asked."""
        return next(iter(self._waiting.values())).asked

    @property
    def room(self) -> int:
        """Observations that a pass can take."""
        return min(self._most, self.policy.batch_limit.most)

    @property
    def next_expiry(self) -> float:
        """When the first of those that wait is no longer to be answered; infinite if all wait for ever."""
        return min((each.asked + each.observed.within_sec for each in self._waiting.values()), default=math.inf)

    def join(self, session: Session) -> None:
        """A session that will ask."""
        self._rhythms[session] = Rhythm()

    def leave(self, session: Session) -> None:
        """What it has asked is not computed."""
        for table in (self._rhythms, self._waiting, self._asked):
            table.pop(session, None)
        self._clumsy.discard(session)

    def ask(self, session: Session, now: float) -> None:
        """A session's frame has come. Then it is read."""
        self._rhythms[session].ask(now)
        self._asked[session] = now

    def take(self, observed: Observed) -> bool:
        """A frame that was read: an observation waits for a pass from now on. Whether its session is still there."""
        session = observed.session
        if session not in self._asked:
            return False
        asked = self._asked.pop(session)
        if observed.is_read:
            self._clumsy.discard(session)
            self._waiting[session] = _Waiting(observed, asked)
        else:
            self._clumsy.add(session)
        return True

    def take_expired(self, now: float) -> list[Observed]:
        """Those whose clients no longer want an answer. They wait no more."""
        late = [each.observed for each in self._waiting.values() if now - each.asked > each.observed.within_sec]
        for observed in late:
            del self._waiting[observed.session]
        return late

    def take_batch(self) -> list[Observed]:
        """Those that asked first, as many as there is room for. They wait no more."""
        batch = [each.observed for each in islice(self._waiting.values(), self.room)]
        for observed in batch:
            del self._waiting[observed.session]
        return batch

    def answered(self, sessions: Iterable[Session], now: float) -> None:
        """They may ask again."""
        for session in sessions:
            if session in self._rhythms:  # otherwise it has left meanwhile
                self._rhythms[session].answer(now)

    def took(self, seconds: float) -> None:
        """A forward pass has taken so long."""
        self._recent_sec.append(seconds)
        self._pass_sec = min(self._recent_sec) if len(self._recent_sec) >= KNOWN else 0.0

    def begin_at(self, free: float, now: float) -> float:
        """When the next pass is to begin, for those that wait now. ``free``: since when there has been no other."""
        if len(self._waiting) >= self.room:
            return now
        since = max(self.oldest, free)
        latest = self.next_expiry - MARGIN_SEC
        if self._asked.keys() - self._clumsy and now < since + READ_SEC:
            return max(now, min(since + READ_SEC, latest))
        return max(now, min(self._worth_waiting_until(now), since + self._pass_sec, latest))

    def _worth_waiting_until(self, now: float) -> float:
        """For as many as it is worth; they may be as late as it is worth. ``now`` if it is worth it for nobody."""
        until, waiting, coming = now, len(self._waiting), 0
        for due in self._due_by(now + self._pass_sec):
            worth = self._pass_sec * (coming + 1) / (waiting + coming + 1)
            if waiting + coming == self.room:
                break
            if due + worth <= now:  # it has not come
                continue
            coming += 1
            if due - now <= worth:
                until = due + worth
        return until

    def _due_by(self, end: float) -> list[float]:
        """When those who keep their pace should ask, the first first."""
        even = EVEN * self._pass_sec
        return sorted(each.due for each in self._rhythms.values() if each.due <= end and each.spread <= even)
