"""What a client hears beside answers: what it waits for, why there is no session, why an observation has no answer.

The words of the two protocols differ, and so does whether a session goes on after an error. Both have the same sessions
and the same worker behind them.
"""

from __future__ import annotations

from typing import Protocol

from websockets.frames import CloseCode

from positronic.serving.messages import OPENPI, POSITRONIC, error_frame, refused_frame, status_frame
from positronic.serving.peer import EndedError, Peer

OPENPI_REASON = "Internal server error. The reason is in the previous frame."


class Framing(Protocol):
    """How one protocol says it. ``wire``: the name under which the worker knows the protocol."""

    wire: str

    async def tell(self, peer: Peer, status: str, message: str) -> None:
        """The session is not open yet."""
        ...

    async def refuse(self, peer: Peer, reason: str, code: int) -> None:
        """There will be no session."""
        ...

    async def fail(self, peer: Peer, reason: str) -> None:
        """This observation has no answer. Raises EndedError if the session ends with it."""
        ...

    async def lose(self, peer: Peer, reason: str, code: int) -> None:
        """The worker has been lost, and the session with it: this observation has no answer, and none will follow."""
        ...


class PositronicFraming:
    """Protocol version 1: maps with a status or an error, and a session that goes on after one."""

    wire = POSITRONIC

    async def tell(self, peer: Peer, status: str, message: str) -> None:
        await peer.send(status_frame(status, message))

    async def refuse(self, peer: Peer, reason: str, code: int) -> None:
        await peer.end(refused_frame(reason), reason, code)

    async def fail(self, peer: Peer, reason: str) -> None:
        await peer.send(error_frame(reason))

    async def lose(self, peer: Peer, reason: str, code: int) -> None:
        await peer.end(refused_frame(reason), reason, code)


class OpenPiFraming:
    """As openpi's server: no status, so that a client waits for the metadata; an error is a text, and the end.

    Openpi's client reads the metadata from whatever comes first. So a refusal is the reason of the closing alone, which
    it shows.
    """

    wire = OPENPI

    async def tell(self, peer: Peer, status: str, message: str) -> None:
        """It waits without being told."""

    async def refuse(self, peer: Peer, reason: str, code: int) -> None:
        await peer.close_with(reason, code)

    async def fail(self, peer: Peer, reason: str) -> None:
        await peer.end(reason, OPENPI_REASON, CloseCode.INTERNAL_ERROR)
        raise EndedError(reason, CloseCode.INTERNAL_ERROR)

    async def lose(self, peer: Peer, reason: str, code: int) -> None:
        await peer.end(reason, OPENPI_REASON, code)
