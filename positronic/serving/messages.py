"""What the API process and the inference worker say to each other.

They talk over one local ZMQ socket and not over LitServe's queues: a frame from a robot crosses once, as the bytes that
it came in, without pickle and without a thread in between.

    to the worker    [session, kind, checkpoint id, payload]
    from the worker  [session, kind, payload]
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from positronic import keys
from positronic.errors import clipped
from positronic.serving.discretion import told
from positronic.serving.failures import MAX_REASON
from positronic.utils.serialization import serialise

Session = bytes

POSITRONIC, OPENPI = "positronic", "openpi"  # the protocols that a session may speak


class Request(bytes, Enum):
    """OPEN: I want this checkpoint; the payload is how many bytes it takes at least, as digits, and the session's
    protocol, with a space between. INFER: the payload is an observation's frame. CLOSE: the client has gone."""

    OPEN = b"open"
    INFER = b"infer"
    CLOSE = b"close"
    ALIVE = b"alive"


class Reply(bytes, Enum):
    """STATUS: not yet; the payload is a status and a message, with a space between. REFUSED: never; the payload says
    why. READY and ANSWER: the payload is the frame for the client. FAILED: no answer; the payload says why. LOST: no
    more answers; the payload is the code to close the connection with and why, with a space between."""

    STATUS = b"status"
    REFUSED = b"refused"
    READY = b"ready"
    ANSWER = b"answer"
    FAILED = b"failed"
    ALIVE = b"alive"
    LOST = b"lost"


def status_frame(status: str, message: str) -> bytes:
    """A frame for the client: what it waits for."""
    return serialise({keys.STATUS: status, keys.MESSAGE: message})


def ready_frame(meta: dict[str, Any]) -> bytes:
    """A frame for the client: observations may come."""
    return serialise({keys.STATUS: keys.STATUS_READY, keys.META: meta})


def refused_frame(reason: str) -> bytes:
    """A frame for the client: there will be no session, or it has ended."""
    return serialise({keys.STATUS: keys.ERROR, keys.ERROR: sendable(reason)})


def error_frame(reason: str) -> bytes:
    """A frame for the client: this observation has no answer; the session stays open."""
    return serialise({keys.ERROR: sendable(reason)})


def failed_reply(reason: str) -> tuple[Reply, bytes]:
    """From the worker: an observation has no answer, whatever its session's protocol is."""
    return Reply.FAILED, sendable(reason).encode()


def sendable(reason: str) -> str:
    """An error's text that can always be sent: short, without halves of characters, and without what a client is not
    told."""
    return clipped(told(reason), MAX_REASON).encode(errors="replace").decode()
