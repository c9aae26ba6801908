"""The robot-side client of the inference API. Needs numpy, msgpack and websockets; Pillow, if there, shrinks images.

with InferenceClient("gpu-box", 8000).session() as session:
    for step in session.infer({"robot_state.ee_pose": pose, "grip": 0.0, "image.wrist": frame, ...}):
        ...
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from urllib.parse import quote

from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from positronic import keys
from positronic.client.session import ConnectionLost, Session, SessionRefused
from positronic.client.status import OnStatus, status_line
from positronic.client.tls import describe, trusting
from positronic.errors import PositronicError
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


class InferenceClient:
    """Opens sessions with one server.

    ``connect_timeout_sec``: how long to keep trying while the server starts. After that, loading a checkpoint may take
    any time as long as the server reports. ``token``: bearer token. ``on_status(status, message)``: is told what the
    client waits for; by default this is a line on stderr if that is a terminal. ``tls``: encrypt, with a server whose
    certificate this machine trusts, or that is in the file ``tls_ca``.

    Raises PositronicError when ``tls_ca`` is no file with certificates, or comes without ``tls``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str | None = None,
        connect_timeout_sec: float = 120.0,
        on_status: OnStatus | None = None,
        tls: bool = False,
        tls_ca: str | None = None,
    ) -> None:
        self._tls = trusting(tls, tls_ca)
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_sec = connect_timeout_sec
        self._on_status = on_status or status_line()

    def models(self) -> list[str]:
        """Ids of the checkpoints that the server offers, oldest first. Raises like ``session``."""
        return self._retry(self._fetch_models)

    def session(self, checkpoint: str | int | None = None) -> Session:
        """A ready session with ``checkpoint``, or with the server's default.

        Raises ConnectionLost when nothing answers within ``connect_timeout_sec``, SessionRefused when the server has
        no such checkpoint, cannot load it, or does not accept the token.
        """
        path = keys.ROUTE_SESSION if checkpoint is None else f"{keys.ROUTE_SESSION}/{quote(str(checkpoint))}"
        scheme = "ws" if self._tls is None else "wss"
        session = self._retry(lambda: self._open(f"{scheme}://{self._authority}{path}"))
        self._on_status(keys.STATUS_READY, "")
        return session

    def _open(self, address: str) -> Session:
        try:
            return Session(self._dial(address), address, self._on_status)
        except InvalidStatus as error:
            raise self._judge(error.response.status_code) from None
        except (ConnectionLost, InvalidHandshake, EOFError) as error:
            raise _NotYetError(str(error)) from None
        except OSError as error:
            raise self._unreachable(error) from None

    def _dial(self, address: str) -> AbstractContextManager[ClientConnection]:
        return connect(
            address,
            ssl=self._tls,
            additional_headers=self._headers,
            compression=None,
            proxy=None,  # robots and servers share a network
            open_timeout=OPEN_TIMEOUT_SEC,
            ping_interval=PING_SEC,
            ping_timeout=PING_SEC,
            close_timeout=CLOSE_SEC,
            logger=QUIET,
            max_size=MAX_FRAME_BYTES,
        )

    def _fetch_models(self) -> list[str]:
        scheme = "http" if self._tls is None else "https"
        request = urllib.request.Request(f"{scheme}://{self._authority}{keys.ROUTE_MODELS}", headers=self._headers)
        direct = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        opener = urllib.request.build_opener(*direct)
        try:
            with opener.open(request, timeout=OPEN_TIMEOUT_SEC) as response:
                return [str(model) for model in json.load(response)[keys.MODELS]]
        except urllib.error.HTTPError as error:
            raise self._judge(error.code) from None
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        except (ValueError, KeyError, TypeError):
            raise PositronicError(
                f"{request.full_url}: expected {{'{keys.MODELS}': [...]}}, found something else."
            ) from None

    def _retry[T](self, attempt: Callable[[], T]) -> T:
        start_sec = time.monotonic()
        delays = _delays()
        while True:
            delay_sec = next(delays)
            try:
                return attempt()
            except _NotYetError as not_yet:
                waited_sec = time.monotonic() - start_sec
                if waited_sec + delay_sec > self._timeout_sec:
                    raise self._nobody(waited_sec, not_yet) from None
                message = f"Waiting for {self._authority}: {not_yet} ({waited_sec:.0f} s of {self._timeout_sec:.0f} s)"
                self._on_status(STATUS_CONNECTING, message)
            time.sleep(delay_sec)

    def _judge(self, http_status: int) -> Exception:
        if http_status in HTTP_TOKEN_REFUSED:
            what = "does not accept this token" if self._headers else "asks for a token, and none was given"
            return SessionRefused(
                f"{self._authority} {what} (HTTP {http_status}). Set policy.token=<the server's>. If it has none, it "
                "has no choice of checkpoints either: ask for none."
            )
        if http_status >= HTTP_SERVER_ERROR or http_status == HTTP_TOO_MANY:
            return _NotYetError(f"HTTP {http_status}")
        return PositronicError(
            f"{self._authority} answers HTTP {http_status}: there is a server, but not of this API, or one without a "
            "choice of checkpoints, as the model servers of Positronic 0.4. Check the port, or ask for no checkpoint."
        )

    def _unreachable(self, reason: object) -> Exception:
        if isinstance(reason, socket.gaierror):
            return ConnectionLost(f"No such host: {self._authority} ({reason}). Check policy.host.")
        if isinstance(reason, ssl.SSLError):
            return SessionRefused(f"{self._authority}: {describe(reason)}")
        return _NotYetError(str(reason) or type(reason).__name__)

    def _nobody(self, waited_sec: float, reason: Exception) -> ConnectionLost:
        return ConnectionLost(
            f"No inference server answers at {self._authority} after {waited_sec:.0f} s: {reason}. Start one with "
            "`python run.py stage=serve checkpoints_dir=...`, or check policy.host and policy.port."
            + ("" if self._tls else " A server with TLS needs policy.tls=true.")
        )


class _NotYetError(Exception):
    """Worth another try."""


def _delays() -> Iterator[float]:
    delay_sec = FIRST_DELAY_SEC
    while True:
        yield delay_sec
        delay_sec = min(delay_sec * 2, MAX_DELAY_SEC)
