"""The bearer token, checked for every route before anything else sees the request."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from websockets.frames import CloseCode

from positronic import keys
from positronic.errors import PositronicError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SCHEMES = ("Bearer", "Api-Key")  # the latter is what openpi's client says
OPEN_PATHS = ("/health", keys.ROUTE_HEALTH, keys.ROUTE_READY)  # load balancers and containers ask without a token
UNAUTHORISED_BODY = b'{"detail":"Expected the header Authorization: Bearer <token>, with the token of this server."}'


AUTO = "auto"
AUTO_BYTES = 24


def check_token(token: str) -> str:
    """The token, or a new random one for ``auto``.

    Raises PositronicError unless it is printable ASCII without spaces, as a header needs it.
    """
    if token == AUTO:
        return secrets.token_urlsafe(AUTO_BYTES)
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise PositronicError(
            "server.token: expected printable ASCII characters without spaces, auto for a new one, or null for none."
        )
    return token


class TokenGuard:
    """ASGI middleware. HTTP without the token: 401. A websocket is refused before it is accepted: 403."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], token: str) -> None:
        self._app = app
        self._expected = [f"{scheme} {token}".encode() for scheme in SCHEMES]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._lets_in(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": CloseCode.POLICY_VIOLATION})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": UNAUTHORISED_BODY})

    def _lets_in(self, scope: Scope) -> bool:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN_PATHS:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return any(hmac.compare_digest(given, expected) for expected in self._expected)
