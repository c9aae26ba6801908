"""Reaching a server: where it is, how often that is tried, and what its refusals mean. Nothing here waits."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from websockets.exceptions import InvalidHandshake, InvalidStatus

from positronic import keys
from positronic.client.images import require_jpeg
from positronic.client.protocol import ConnectionLost, NotYetError, PostponedError, SessionRefused
from positronic.client.status import OnStatus, status_line
from positronic.client.tls import describe, trusting
from positronic.errors import PositronicError
from positronic.utils.addresses import authority
from positronic.utils.serialization import MAX_FRAME_BYTES

FIRST_DELAY_SEC, MAX_DELAY_SEC = 0.1, 1.0
OPEN_TIMEOUT_SEC = 10.0
CLOSE_SEC = 2.0  # for a goodbye that nobody may answer
PING_SEC = 20.0  # both how often we ask whether the server is there, and how long it may take to say so
HTTP_TOKEN_REFUSED = (401, 403)
HTTP_TOO_MANY = 429
HTTP_SERVER_ERROR = 500

QUIET = logging.getLogger("positronic.client.websocket")  # what it would report as a traceback, we raise as a sentence
QUIET.setLevel(logging.CRITICAL)

STATUS_CONNECTING = "connecting"


class Server:
    """Where a server is, and how it is spoken to. Parameters as of ``InferenceClient``."""

    def __init__(
        self, host: str, port: int, token: str | None, tls: bool, tls_ca: str | None, robot: Mapping[str, Any] | None
    ) -> None:
        self.authority = authority(host, port)
        self._tls = trusting(tls, tls_ca)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._stated = {} if robot is None else {keys.HEADER_ROBOT: json.dumps(robot)}

    def session_address(self, checkpoint: str | int | None) -> str:
        """Where a session with a checkpoint, or with the default one, is opened."""
        path = keys.ROUTE_SESSION if checkpoint is None else f"{keys.ROUTE_SESSION}/{quote(str(checkpoint))}"
        return f"{'ws' if self._tls is None else 'wss'}://{self.authority}{path}"

    def connect_options(self) -> dict[str, Any]:
        """What both of websockets' clients are told."""
        return {
            "ssl": self._tls,
            "additional_headers": self._headers | self._stated,
            "compression": None,
            "proxy": None,  # robots and servers share a network
            "open_timeout": OPEN_TIMEOUT_SEC,
            "ping_interval": PING_SEC,
            "ping_timeout": PING_SEC,
            "close_timeout": CLOSE_SEC,
            "logger": QUIET,
            "max_size": MAX_FRAME_BYTES,
        }

    @contextlib.contextmanager
    def judged(self) -> Iterator[None]:
        """Around one attempt to reach the server. Raises NotYetError if it is worth another try, or else
        PositronicError."""
        try:
            yield
        except InvalidStatus as error:
            raise self._judge(error.response.status_code) from None
        except urllib.error.HTTPError as error:
            error.close()  # it is an open answer, too
            raise self._judge(error.code) from None
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from None
        except (ConnectionLost, InvalidHandshake, EOFError) as error:
            raise NotYetError(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def models(self) -> list[str]:
        """Ask once for the ids of the checkpoints. Raises like ``judged``."""
        scheme = "http" if self._tls is None else "https"
        request = urllib.request.Request(f"{scheme}://{self.authority}{keys.ROUTE_MODELS}", headers=self._headers)
        direct = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        with self.judged():
            try:
                with urllib.request.build_opener(*direct).open(request, timeout=OPEN_TIMEOUT_SEC) as response:
                    return [str(model) for model in json.load(response)[keys.MODELS]]
            except (ValueError, KeyError, TypeError):
                raise PositronicError(
                    f"{request.full_url}: expected {{'{keys.MODELS}': [...]}}, found something else."
                ) from None

    def nobody(self, waited_sec: float, reason: Exception, before: PostponedError | None) -> ConnectionLost:
        """The error when nobody has answered for so long, or nobody any more who had put us off ``before``."""
        if before is not None:
            return ConnectionLost(
                f"The inference server at {self.authority} has gone: {reason}. It was waited for {waited_sec:.0f} s. "
                f"Before it went it said: {before}"
            )
        return ConnectionLost(
            f"No inference server answers at {self.authority} after {waited_sec:.0f} s: {reason}. Start one with "
            "`python run.py stage=serve checkpoints_dir=...`, or check policy.host and policy.port."
            + ("" if self._tls else " A server with TLS needs policy.tls=true.")
        )

    def postponed(self, waited_sec: float, reason: PostponedError) -> ConnectionLost:
        """The error when the server has put us off for so long."""
        return ConnectionLost(
            f"The inference server at {self.authority} opened no session within {waited_sec:.0f} s. "
            "policy.connect_timeout_sec and policy.reconnect_sec say for how long it is asked again. It said last: "
            f"{reason}"
        )

    def _judge(self, http_status: int) -> Exception:
        if http_status in HTTP_TOKEN_REFUSED:
            what = "does not accept this token" if self._headers else "asks for a token, and none was given"
            return SessionRefused(
                f"{self.authority} {what} (HTTP {http_status}). Set policy.token=<the server's>. If it has none, it "
                "has no choice of checkpoints either: ask for none."
            )
        if http_status >= HTTP_SERVER_ERROR or http_status == HTTP_TOO_MANY:
            return NotYetError(f"HTTP {http_status}")
        return PositronicError(
            f"{self.authority} answers HTTP {http_status}: there is a server, but not of this API, or one without a "
            "choice of checkpoints, as the model servers of Positronic 0.4. Check the port, or ask for no checkpoint."
        )

    def _unreachable(self, reason: object) -> Exception:
        if isinstance(reason, socket.gaierror):
            return ConnectionLost(f"No such host: {self.authority} ({reason}). Check policy.host.")
        if isinstance(reason, ssl.SSLError):
            return SessionRefused(f"{self.authority}: {describe(reason)}")
        if isinstance(reason, OSError) and reason.errno is not None:
            return NotYetError(os.strerror(reason.errno))  # asyncio has words of its own
        return NotYetError(str(reason) or type(reason).__name__)


class Caller:
    """What both clients are given, ``InferenceClient`` says what it means."""

    def __init__(
        self,
        host: str,
        port: int,
        token: str | None = None,
        connect_timeout_sec: float = 120.0,
        on_status: OnStatus | None = None,
        tls: bool = False,
        tls_ca: str | None = None,
        jpeg_quality: int | None = None,
        robot: Mapping[str, Any] | None = None,
    ) -> None:
        require_jpeg(jpeg_quality)
        self._server = Server(host, port, token, tls, tls_ca, robot)
        self._timeout_sec, self._jpeg_quality = connect_timeout_sec, jpeg_quality
        self._on_status = on_status or status_line()


class Patience:
    """How long to wait between attempts, twice as long each time up to a second, and when to stop."""

    def __init__(self, server: Server, timeout_sec: float, on_status: OnStatus) -> None:
        self._server, self._timeout_sec, self._on_status = server, timeout_sec, on_status
        self._begin_sec, self._delay_sec = time.monotonic(), FIRST_DELAY_SEC
        self._postponed: PostponedError | None = None  # the last time

    def delay_sec(self, not_yet: NotYetError) -> float:
        """How long to wait after a failed attempt. Raises ConnectionLost when there is no time left for it."""
        delay_sec, self._delay_sec = self._delay_sec, min(self._delay_sec * 2, MAX_DELAY_SEC)
        waited_sec = time.monotonic() - self._begin_sec
        if isinstance(not_yet, PostponedError):
            self._postponed = not_yet
        if waited_sec + delay_sec > self._timeout_sec:
            if not_yet is self._postponed:
                raise self._server.postponed(waited_sec, self._postponed)
            raise self._server.nobody(waited_sec, not_yet, self._postponed)
        of = f"{waited_sec:.0f} s of {self._timeout_sec:.0f} s"
        self._on_status(STATUS_CONNECTING, f"Waiting for {self._server.authority}: {not_yet} ({of})")
        return delay_sec
