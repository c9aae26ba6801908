"""The inference worker: takes requests from the API process and answers observations in batches.

A batching policy belongs here. Today, everything that is queued for the same policy when the worker is free goes
through the model together, so a lone robot never waits for company. A frame that is quick to read is read here; other
threads read the others. The worker waits for the frames that they are reading, a moment at most, so that robots that
ask together are answered together.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import zmq

from positronic import keys
from positronic.commands import ActionStep, chunk_to_wire
from positronic.serving.failures import Failure, attempt
from positronic.serving.memory import Memory
from positronic.serving.messages import Reply, Request, Session, error_frame, ready_frame
from positronic.serving.policy import ServedPolicy
from positronic.serving.readers import Observed, Readers, read
from positronic.serving.store import Event, Opened, PolicyStore, Refused
from positronic.serving.weight import is_light
from positronic.utils.msgpack_walk import Buffer
from positronic.utils.serialization import serialise

logger = logging.getLogger(__name__)

MAX_BATCH = 16
IDLE_MS = 1000
GATHER_MS = 4  # for frames that are being read when the model is free: reading an honest one takes less
FLUSH_MS = 1000
DEVICE_LOST = 70  # the worker's exit code
NO_POLICY = "This session has no checkpoint yet: expected an observation after 'ready', found one before. Wait for it."


class Scheduler:
    """Owns the worker's end of the socket at ``address``, and the policies. ``load``: checkpoint id to policy.
    ``memory``: what there is for them."""

    def __init__(self, address: str, load: Callable[[str], ServedPolicy], memory: Memory) -> None:
        self._context = zmq.Context()
        self._socket = self._bind(address)
        self._readers = Readers()
        self._poller = zmq.Poller()
        for source in (self._socket, self._readers.fileno()):
            self._poller.register(source, zmq.POLLIN)
        self._store = PolicyStore(load, self._readers.ring, memory)
        self._peers: dict[Session, bytes] = {}
        self._seen: list[Observed] = []
        self._reading: set[Session] = set()
        # Their last frame was no observation, so the others do not wait for the next one.
        self._clumsy: set[Session] = set()
        self._queue: dict[Session, Observed] = {}
        self._queued_sec = 0.0
        # Of the random numbers that a robot's chunks start from, where its observations do not say their seed: they do
        # not depend on who else is served.
        self._generators: dict[Session, np.random.Generator] = defaultdict(np.random.default_rng)

    def preload(self, checkpoint: str, needs: int) -> None:
        """Begin loading before anybody asks. ``needs``: bytes of memory that it will take at least."""
        self._store.preload(checkpoint, needs)

    def step(self) -> None:
        """Wait for something to happen, at most ``IDLE_MS``. Then take up everything that has happened, and answer one
        batch."""
        ready = dict(self._poller.poll(self._patience_ms()))
        if self._readers.fileno() in ready:
            self._take_read(self._readers.collect())
            self._tell(self._store.collect())
        if self._socket in ready:
            self._receive()
        if self._queue and not self._patience_ms():
            self._answer_batch()

    def _patience_ms(self) -> int:
        """How long the worker can wait because it has nothing better to do."""
        if not self._queue:
            return IDLE_MS
        if len(self._queue) >= MAX_BATCH or not self._reading - self._clumsy:
            return 0
        waited_ms = (time.monotonic() - self._queued_sec) * 1000
        return max(0, int(GATHER_MS - waited_ms))

    def _bind(self, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.sndhwm = socket.rcvhwm = 0  # each session has one message in flight: nothing to limit, nothing to lose
        socket.linger = 0
        socket.bind(address)
        return socket

    def _receive(self) -> None:
        """Take up the requests. No observation is answered meanwhile, so nobody can ask again and again."""
        while self._socket.poll(0):
            *heads, frame = self._socket.recv_multipart(copy=False)
            peer, session, kind, checkpoint = (head.bytes for head in heads)
            if kind == Request.ALIVE:
                self._socket.send_multipart([peer, session, Reply.ALIVE, b""])
                continue
            self._peers[session] = peer
            self._take(session, Request(kind), checkpoint.decode(), frame.buffer)
        self._take_read(self._seen)
        self._seen = []

    def _take(self, session: Session, request: Request, checkpoint: str, payload: Buffer) -> None:
        if request is Request.OPEN:
            self._tell(self._store.open(session, checkpoint, int(bytes(payload))))
        elif request is Request.INFER:
            self._observe(session, payload)
        else:
            self._queue.pop(session, None)
            self._peers.pop(session, None)
            self._reading.discard(session)
            self._clumsy.discard(session)
            self._generators.pop(session, None)
            self._tell(self._store.close(session))

    def _observe(self, session: Session, payload: Buffer) -> None:
        policy = self._store.policy(session)
        if policy is None:
            self._send(session, Reply.ANSWER, error_frame(NO_POLICY))
            return
        self._reading.add(session)
        if is_light(payload):
            self._seen.append(read(session, policy, payload))
        else:
            self._readers.ask(session, policy, payload)

    def _take_read(self, observed: Sequence[Observed]) -> None:
        for each in observed:
            if each.session not in self._reading:  # its client has gone meanwhile
                continue
            self._reading.remove(each.session)
            if isinstance(each.encoded, Failure):
                self._clumsy.add(each.session)
                self._send(each.session, Reply.ANSWER, error_frame(each.encoded.reason))
                continue
            self._clumsy.discard(each.session)
            self._queued_sec = self._queued_sec if self._queue else time.monotonic()
            self._queue[each.session] = each

    def _answer_batch(self) -> None:
        policy = next(iter(self._queue.values())).policy
        batch = list(islice((each for each in self._queue.values() if each.policy is policy), MAX_BATCH))
        for each in batch:
            del self._queue[each.session]
        self._queued_sec = time.monotonic()
        generators = [each.generator or self._generators[each.session] for each in batch]
        outcomes = policy.predict_each([each.encoded for each in batch], generators)
        for each, outcome in zip(batch, outcomes, strict=True):
            self._send(each.session, Reply.ANSWER, answer_frame(outcome))
        if any(isinstance(outcome, Failure) for outcome in outcomes) and device_is_lost():
            self._give_up()

    def _give_up(self) -> None:
        """End this process after the answers have been sent. The main process then ends the others, with a message."""
        logger.error("The device has failed for good: no further observation can be answered. See the error above.")
        self._socket.close(linger=FLUSH_MS)
        self._context.term()
        os._exit(DEVICE_LOST)

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._send(event.session, Reply.READY, ready_frame(dict(event.policy.meta)))
            elif isinstance(event, Refused):
                self._send(event.session, Reply.REFUSED, event.reason.encode(errors="replace"))
            else:
                self._send(event.session, Reply.STATUS, f"{event.status} {event.message}".encode())

    def _send(self, session: Session, reply: Reply, payload: bytes) -> None:
        if session in self._peers:  # otherwise its client has left in the meantime
            self._socket.send_multipart([self._peers[session], session, reply, payload])


def answer_frames(policy: ServedPolicy, payloads: Sequence[bytes]) -> list[bytes]:
    """What the worker does with observations that come together, in this thread and without a socket: each is read
    alone, and the good ones are predicted together. One answer for each, in their order. For measurements and tests.
    """
    seen = [read(b"", policy, payload) for payload in payloads]
    good = [each for each in seen if not isinstance(each.encoded, Failure)]
    generators = [each.generator or np.random.default_rng() for each in good]
    outcomes = iter(policy.predict_each([each.encoded for each in good], generators))
    return [answer_frame(each.encoded if isinstance(each.encoded, Failure) else next(outcomes)) for each in seen]


def answer_frame(outcome: list[ActionStep] | Failure) -> bytes:
    """A result, or an error if there is none or it cannot travel."""
    frame = outcome if isinstance(outcome, Failure) else attempt(_result_frame, outcome)
    return error_frame(frame.reason) if isinstance(frame, Failure) else frame


def _result_frame(steps: list[ActionStep]) -> bytes:
    return serialise({keys.RESULT: chunk_to_wire(steps)})


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
