"""The inference worker: takes requests from the API process, answers observations in batches.

This is the room for a batching policy. As it stands: whatever is queued for the same policy when the worker is free
goes through the model together, so a lone robot never waits for company.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import islice

import zmq

from positronic import keys
from positronic.errors import PositronicError
from positronic.serving.messages import Reply, Request, Session, error_frame, ready_frame
from positronic.serving.policy import ServedPolicy
from positronic.serving.store import Event, Opened, PolicyStore, Refused, describe, unexpected
from positronic.utils.serialization import deserialise, serialise

logger = logging.getLogger(__name__)

MAX_BATCH = 16
IDLE_MS = 1000
WAKE_ADDRESS = "inproc://loads-ended"


class Scheduler:
    """Owns the worker's end of the socket at ``address``, and the policies. ``load``: checkpoint id to policy."""

    def __init__(self, address: str, load: Callable[[str], ServedPolicy]) -> None:
        self._context = zmq.Context()
        self._socket = self._bind(zmq.ROUTER, address)
        self._woken = self._bind(zmq.PULL, WAKE_ADDRESS)
        self._poller = zmq.Poller()
        for socket in (self._socket, self._woken):
            self._poller.register(socket, zmq.POLLIN)
        self._store = PolicyStore(load, self._wake)
        self._peers: dict[Session, bytes] = {}
        self._queue: dict[Session, bytes] = {}

    def preload(self, checkpoint: str) -> None:
        """Begin loading before anybody asks."""
        self._store.preload(checkpoint)

    def step(self) -> None:
        """Wait for something to happen, at most ``IDLE_MS``; then take up everything that has, and answer one batch."""
        ready = dict(self._poller.poll(0 if self._queue else IDLE_MS))
        if self._woken in ready:
            self._drain_wakes()
            self._tell(self._store.collect())
        if self._socket in ready:
            self._receive()
        self._answer_batch()

    def _bind(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = 0  # one message a session is in flight: nothing to limit, nothing to lose
        socket.linger = 0
        socket.bind(address)
        return socket

    def _wake(self) -> None:
        with self._context.socket(zmq.PUSH) as socket:
            socket.connect(WAKE_ADDRESS)
            socket.send(b"")

    def _drain_wakes(self) -> None:
        while self._woken.poll(0):
            self._woken.recv()

    def _receive(self) -> None:
        while self._socket.poll(0):
            peer, session, kind, checkpoint, payload = self._socket.recv_multipart()
            self._peers[session] = peer
            self._take(session, Request(kind), checkpoint.decode(), payload)

    def _take(self, session: Session, request: Request, checkpoint: str, payload: bytes) -> None:
        if request is Request.OPEN:
            self._tell(self._store.open(session, checkpoint))
        elif request is Request.INFER:
            self._queue[session] = payload
        else:
            self._queue.pop(session, None)
            self._peers.pop(session, None)
            self._tell(self._store.close(session))

    def _answer_batch(self) -> None:
        sessions = list(islice(self._queue, 1))
        if not sessions:
            return
        policy = self._store.policy(sessions[0])
        sessions += [s for s in islice(self._queue, 1, None) if self._store.policy(s) is policy][: MAX_BATCH - 1]
        payloads = [self._queue.pop(session) for session in sessions]
        for session, frame in zip(sessions, answer_frames(policy, payloads), strict=True):
            self._send(session, Reply.ANSWER, frame)

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._send(event.session, Reply.READY, ready_frame(dict(event.policy.meta)))
            elif isinstance(event, Refused):
                self._send(event.session, Reply.REFUSED, event.reason.encode())
            else:
                self._send(event.session, Reply.STATUS, f"{event.status} {event.message}".encode())

    def _send(self, session: Session, reply: Reply, payload: bytes) -> None:
        if session in self._peers:  # else its client has gone meanwhile
            self._socket.send_multipart([self._peers[session], session, reply, payload])


def answer_frames(policy: ServedPolicy | None, payloads: Sequence[bytes]) -> list[bytes]:
    """One frame for each observation's frame: a result or an error. One forward pass for all that are good."""
    if policy is None:
        return [error_frame("This session has no checkpoint yet: wait for 'ready'.")] * len(payloads)
    decoded = [_decode(payload) for payload in payloads]
    good = [value for value in decoded if not isinstance(value, PositronicError)]
    outcomes = iter(policy.infer_each(good))
    return [_frame(value if isinstance(value, PositronicError) else next(outcomes)) for value in decoded]


def _decode(payload: bytes) -> object:
    try:
        return deserialise(payload)
    except PositronicError as error:
        return error


def _frame(outcome: object) -> bytes:
    if isinstance(outcome, Exception):
        if unexpected(outcome):
            logger.error("An observation could not be answered", exc_info=outcome)
        return error_frame(describe(outcome))
    return serialise({keys.RESULT: [step.to_wire() for step in outcome]})
