"""A session frame by frame, with nothing between the test and the wire but msgpack."""

import contextlib
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic import keys
from positronic.client.versions import version_of
from positronic.utils.serialization import deserialise, serialise

ANSWER_SEC = 120  # a model may be slow; a server that is silent for longer while it loads breaks the protocol
SILENCE_SEC = 30


@dataclass(frozen=True)
class Target:
    """A server: ``ws://host:port``, an observation that it answers, its token."""

    address: str
    observation: dict
    token: str | None = None

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def http(self, route):
        scheme, *rest = urlsplit(f"{self.address}{route}")
        return urlunsplit([scheme.replace("ws", "http"), *rest])


class SessionByHand:
    """A connection to a session's address. Context manager. ``opening``: the frames until the session was ready."""

    def __init__(self, target, path="", **options):
        address = f"{target.address}{keys.ROUTE_SESSION}{path}"
        more = {"additional_headers": target.headers, "proxy": None, "max_size": None, "open_timeout": 60, **options}
        self._resources = contextlib.ExitStack()
        self.websocket = self._resources.enter_context(connect(address, compression=None, **more))
        self.opening, self.version = [], None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._resources.close()

    def open(self):
        """Hear until ready, or until the server says that there will be no session."""
        while not self.opening or self.opening[-1].get("status") in ("waiting", "loading"):
            self.opening.append(self.hear(SILENCE_SEC))
        ready = self.opening[-1]
        assert ready.get("status") == "ready", f"expected a ready message, found {ready}"
        self.version = version_of(ready, "the server")
        return ready["meta"]

    def frame(self, observation):
        """As it is sent in the version that the server chose."""
        return serialise(self.version.request(observation))

    def say(self, frame):
        self.websocket.send(frame)

    def ask(self, observation):
        """The answer to an observation, or to a frame as it is."""
        self.say(observation if isinstance(observation, bytes | str) else self.frame(observation))
        return self.hear()

    def hear(self, timeout_sec=ANSWER_SEC):
        frame = self.websocket.recv(timeout=timeout_sec)
        assert isinstance(frame, bytes), f"expected a binary frame, found text: {frame[:200]}"
        message = deserialise(frame)
        assert isinstance(message, dict), f"expected a map, found {message!r}"
        return message

    def closing(self):
        """Code and reason of the server's goodbye."""
        try:
            while True:
                self.websocket.recv(timeout=SILENCE_SEC)
        except ConnectionClosed as closed:
            return closed.rcvd.code, closed.rcvd.reason

    def vanish(self):
        """Cut the connection without a goodbye."""
        self.websocket.socket.shutdown(2)
