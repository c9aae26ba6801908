"""Encrypted connections before they are encrypted.

If uvicorn is told of the certificate, it hears of a connection after the TLS handshake: until then nobody counts it,
and asyncio waits 60 s for it. So uvicorn takes plain connections, and each becomes an encrypted one here.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Any

from uvicorn.server import ServerState

from positronic.serving.protocols import PunctualHTTP, is_one_too_many


def encrypted(context: ssl.SSLContext, http: type[PunctualHTTP] = PunctualHTTP) -> partial[TLSHandshake]:
    """What uvicorn makes a connection with: ``http`` inside of TLS."""
    return partial(TLSHandshake, context, http)


class TLSHandshake(asyncio.Protocol):
    """Counts as a connection from its first moment, and is closed after ``http.handshake_sec`` unless it is encrypted
    by then. ``http`` goes on with it."""

    def __init__(
        self, context: ssl.SSLContext, http: type[PunctualHTTP], *, server_state: ServerState, **given: Any
    ) -> None:
        self._context, self._http = context, http
        self._given = {"server_state": server_state, **given}
        self._connections: set[Any] = server_state.connections
        self._early: list[bytes] = []  # a client may say its first words together with its last of the handshake
        self._is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._connections.add(self)
        if is_one_too_many(self._connections):
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._handshake = asyncio.Task(self._encrypt(loop), loop=loop, eager_start=True)  # before anything is read

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._connections.discard(self)

    def shutdown(self) -> None:
        """The server stops."""
        self._transport.abort()

    async def _encrypt(self, loop: asyncio.AbstractEventLoop) -> None:
        patience_sec = self._http.handshake_sec
        try:
            transport = await loop.start_tls(
                self._transport, self, self._context, server_side=True, ssl_handshake_timeout=patience_sec
            )
        except OSError:  # it speaks something else, says nothing, or has gone
            return
        finally:
            self._connections.discard(self)
        if transport is None or self._is_lost:
            return
        http: Any = self._http(**self._given)
        transport.set_protocol(http)
        http.connection_made(transport)
        for data in self._early:
            http.data_received(data)
