"""The inference worker: takes requests from the API process and answers observations in batches.

The sessions of one checkpoint form a line; ``line.py`` says when its next forward pass begins and for whom. Passes run
one at a time, each line's in turn, in a thread of their own: meanwhile this one takes up what comes and sends answers.
Where there is one robot alone, this thread computes for it: handing over would cost it a moment. A frame that is quick
to read is read here; other threads read the others.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import zmq

from positronic import keys
from positronic.serving.bell import Bell
from positronic.serving.failures import Failure
from positronic.serving.line import Line
from positronic.serving.memory import Memory
from positronic.serving.messages import POSITRONIC, Reply, Request, Session, error_frame, failed_reply
from positronic.serving.passes import Pass, Passes, compute
from positronic.serving.policy import ServedPolicy
from positronic.serving.readers import Observed, Readers, read
from positronic.serving.recorder import Recorder
from positronic.serving.store import Event, Opened, PolicyStore, Refused
from positronic.serving.supervision import DEVICE_LOST
from positronic.serving.weight import is_light
from positronic.serving.wires import WIRES, PositronicWire, Wire, answers
from positronic.utils.msgpack_walk import Buffer

logger = logging.getLogger(__name__)

IDLE_MS = 1000
FLUSH_MS = 1000
NO_POLICY = "This session has no checkpoint yet: expected an observation after 'ready', found one before. Wait for it."
TOO_LATE = (
    f"No forward pass was free within {{:g}} s, as '{keys.ANSWER_WITHIN_SEC}' asks: the server is busy. Ask again."
)


class Scheduler:
    """Owns the worker's end of the socket at ``address``, and the policies. ``load``: checkpoint id to policy.
    ``memory``: what there is for them. ``max_batch``: observations in one forward pass."""

    def __init__(self, address: str, load: Callable[[str], ServedPolicy], memory: Memory, max_batch: int) -> None:
        self._context = zmq.Context()
        self._socket = self._bind(address)
        self._bell = Bell()
        self._poller = zmq.Poller()
        for source in (self._socket, self._bell.fileno()):
            self._poller.register(source, zmq.POLLIN)
        self._readers, self._passes = Readers(self._bell.ring), Passes(self._bell.ring)
        self._store = PolicyStore(load, self._bell.ring, memory)
        self._max_batch = max_batch
        self._peers: dict[Session, bytes] = {}
        self._wires: dict[Session, Wire] = {}
        self._lines: dict[Session, Line] = {}
        self._left_in_pass: set[Session] = set()
        self._asked_alive: list[bytes] = []
        self._recorder = Recorder()
        # Of the random numbers that a robot's chunks start from, where its observations do not say their seed: they do
        # not depend on who else is served.
        self._generators: dict[Session, np.random.Generator] = defaultdict(np.random.default_rng)

    def preload(self, checkpoint: str, needs: int) -> None:
        """Begin loading before anybody asks. ``needs``: bytes of memory that it will take at least."""
        self._store.preload(checkpoint, needs)

    def step(self) -> None:
        """Wait for something to happen, at most ``IDLE_MS``. Then take up everything that has happened, and begin the
        next pass."""
        ready = dict(self._poller.poll(self._patience_ms()))
        ended = None
        if self._bell.fileno() in ready:
            self._bell.silence()
            ended = self._end_pass()
            self._take_read(self._readers.collect())
            self._tell(self._store.collect())
        if self._socket in ready:
            self._receive()
        self._begin_pass()
        if ended is not None:
            self._answer(ended)

    def _patience_ms(self) -> int:
        """How long the worker can wait because it has nothing better to do."""
        now, lines = time.monotonic(), self._waiting()
        if self._passes.under_way:
            due = min((line.next_expiry for line in lines), default=math.inf)
        else:
            due = min((line.begin_at(self._passes.free_since, now) for line in lines), default=math.inf)
        return max(0, math.ceil(min(IDLE_MS, (due - now) * 1000)))

    def _waiting(self) -> list[Line]:
        return [line for line in dict.fromkeys(self._lines.values()) if line.is_wanted]

    def _bind(self, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.sndhwm = socket.rcvhwm = 0  # each session has one message in flight: nothing to limit, nothing to lose
        socket.linger = 0
        socket.bind(address)
        return socket

    def _receive(self) -> None:
        """Take up the requests. No observation is answered meanwhile, so nobody can ask again and again."""
        seen: list[Observed] = []
        while self._socket.poll(0):
            *heads, frame = self._socket.recv_multipart(copy=False)
            peer, session, kind, checkpoint = (head.bytes for head in heads)
            if kind == Request.ALIVE:
                self._asked_alive.append(peer)
                continue
            self._peers[session] = peer
            if kind == Request.OPEN:
                self._open(session, checkpoint.decode(), frame.bytes.decode())
            elif kind == Request.INFER:
                seen += self._observe(session, frame.buffer)
            else:
                self._close(session)
        self._take_read(seen)
        if not self._passes.under_way:  # one that never ends must not look alive
            self._say_alive()

    def _open(self, session: Session, checkpoint: str, asked: str) -> None:
        needs, _, wire = asked.partition(" ")
        self._wires[session] = WIRES[wire or POSITRONIC]()
        self._tell(self._store.open(session, checkpoint, int(needs)))

    def _close(self, session: Session) -> None:
        self._peers.pop(session, None)
        self._wires.pop(session, None)
        self._generators.pop(session, None)
        line = self._lines.pop(session, None)
        if line is not None:
            line.leave(session)
        if session in self._passes.under_way:  # its policy must stay until the pass has ended
            self._left_in_pass.add(session)
        else:
            self._tell(self._store.close(session))

    def _observe(self, session: Session, payload: Buffer) -> list[Observed]:
        """The observation, if it was quick to read."""
        line = self._lines.get(session)
        if line is None:
            self._fail(session, NO_POLICY)
            return []
        line.ask(session, time.monotonic())
        if is_light(payload):
            return [read(session, line.policy, payload, self._wires[session])]
        self._readers.ask(session, line.policy, payload, self._wires[session])
        return []

    def _take_read(self, observed: Sequence[Observed]) -> None:
        for each in observed:
            line = self._lines.get(each.session)
            if line is None or not line.take(each):  # its client has gone meanwhile
                continue
            if isinstance(each.encoded, Failure):
                self._fail(each.session, each.encoded.reason)

    def _begin_pass(self) -> None:
        now = time.monotonic()
        for line in self._waiting():
            self._refuse_late(line, now)
        if self._passes.under_way:
            return
        free = self._passes.free_since
        ready = [line for line in self._waiting() if line.begin_at(free, now) <= now]
        if not ready:
            return
        line = min(ready, key=lambda each: each.oldest)
        batch = line.take_batch()
        generators = [each.generator or self._generators[each.session] for each in batch]
        if len(self._lines) > 1:
            self._passes.begin(line, batch, generators)
        else:
            self._answer(self._ended(compute(line, batch, generators)))

    def _refuse_late(self, line: Line, now: float) -> None:
        late = line.take_expired(now)
        for each in late:
            self._fail(each.session, TOO_LATE.format(each.within_sec))
        line.answered([each.session for each in late], now)

    def _end_pass(self) -> Pass | None:
        ended = self._passes.collect()
        return None if ended is None else self._ended(ended)

    def _ended(self, ended: Pass) -> Pass:
        ended.line.took(ended.seconds)
        self._recorder.passed(len(ended.batch), ended.seconds)
        ended.line.answered([each.session for each in ended.batch], time.monotonic())
        self._say_alive()
        return ended

    def _answer(self, ended: Pass) -> None:
        there = [number for number, each in enumerate(ended.batch) if each.session in self._wires]  # others have left
        sessions, chunks = [ended.batch[each].session for each in there], [ended.chunks[each] for each in there]
        told = answers([self._wires[each] for each in sessions], ended.line.policy, chunks, ended.seconds)
        for session, reply in zip(sessions, told, strict=True):
            self._send(session, *reply)
        for session in self._left_in_pass - self._passes.under_way:
            self._left_in_pass.discard(session)
            self._tell(self._store.close(session))
        if any(isinstance(chunk, Failure) for chunk in ended.chunks) and device_is_lost():
            self._give_up()

    def _say_alive(self) -> None:
        if not self._asked_alive:
            return
        state = self._recorder.state(sum(line.queued for line in self._waiting()), self._store.counts()).to_bytes()
        for peer in self._asked_alive:
            self._socket.send_multipart([peer, b"", Reply.ALIVE, state])
        self._asked_alive.clear()

    def _give_up(self) -> None:
        """End this process after the answers have been sent. The main process then starts another one."""
        logger.error("The device has failed for good: no further observation can be answered. See the error above.")
        self._socket.close(linger=FLUSH_MS)
        self._context.term()
        os._exit(DEVICE_LOST)

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._join(event.session, event.policy)
                self._send(event.session, Reply.READY, self._wires[event.session].ready(event.policy))
            elif isinstance(event, Refused):
                self._send(event.session, Reply.REFUSED, event.reason.encode(errors="replace"))
            else:
                self._send(event.session, Reply.STATUS, f"{event.status} {event.message}".encode())

    def _join(self, session: Session, policy: ServedPolicy) -> None:
        lines = (line for line in self._lines.values() if line.policy is policy)
        self._lines[session] = next(lines, None) or Line(policy, self._max_batch)
        self._lines[session].join(session)

    def _fail(self, session: Session, reason: str) -> None:
        self._send(session, *failed_reply(reason))

    def _send(self, session: Session, reply: Reply, payload: bytes) -> None:
        if session in self._peers:  # otherwise its client has left in the meantime
            self._socket.send_multipart([self._peers[session], session, reply, payload])


def answer_frames(policy: ServedPolicy, payloads: Sequence[bytes]) -> list[bytes]:
    """What the worker does with observations that come together, in this thread and without a socket: each is read
    alone, and the good ones are predicted together. One frame for each, in their order, as a client of our protocol
    hears it. For measurements and tests.
    """
    wire = PositronicWire()
    seen = [read(b"", policy, payload, wire) for payload in payloads]
    good = [each for each in seen if each.is_read]
    generators = [each.generator or np.random.default_rng() for each in good]
    chunks = iter(policy.chunks_each([each.encoded for each in good], generators))
    outcomes = [next(chunks) if each.is_read else each.encoded for each in seen]
    replies = answers([wire] * len(outcomes), policy, outcomes, 0.0)
    return [said if reply is Reply.ANSWER else error_frame(said.decode()) for reply, said in replies]


def device_is_lost() -> bool:
    """Whether CUDA has failed for good in this process. After a failed assertion on the device every call fails."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
