"""The robot-side client of the inference API. Needs numpy, msgpack and websockets; Pillow, if there, shrinks images.

with InferenceClient("gpu-box", 8000).session() as session:
    for step in session.infer({"robot_state.ee_pose": pose, "grip": 0.0, "image.wrist": frame, ...}):
        ...
"""

from __future__ import annotations

import time
from collections.abc import Callable

from websockets.sync.client import connect

from positronic import keys
from positronic.client.dialling import Caller, Patience
from positronic.client.protocol import Conversation, NotYetError
from positronic.client.session import Session


class InferenceClient(Caller):
    """Opens sessions with one server.

    ``connect_timeout_sec``: how long to keep trying while the server starts, restarts or is full. Loading a checkpoint
    may take any time as long as the server reports. ``token``: bearer token. ``on_status(status, message)``: is told
    what the client waits for; by default this is a line on stderr if that is a terminal. ``tls``: encrypt, with a
    server whose certificate this machine trusts, or that is in the file ``tls_ca``. ``jpeg_quality``: pictures travel
    as JPEG of that quality, 1 to 100, which a slow network needs and a policy may notice; None: as they are. ``robot``:
    what is stated of the robot, in JSON's types and in the words of a session's meta (``robot``, ``conventions``), and
    which ``commands`` it takes; a server refuses the session if the checkpoint needs another one.

    Raises PositronicError when ``tls_ca`` is no file with certificates, or comes without ``tls``, and when JPEG needs
    Pillow and that is missing.
    """

    def models(self) -> list[str]:
        """Ids of the checkpoints that the server offers, oldest first. Raises like ``session``."""
        return self._retry(self._server.models, self._timeout_sec)

    def session(self, checkpoint: str | int | None = None, connect_timeout_sec: float | None = None) -> Session:
        """A ready session with ``checkpoint``, or with the server's default. ``connect_timeout_sec``: another than the
        client's.

        Raises ConnectionLost when nothing answers within that time or the server asks to come back later than that,
        SessionRefused when the server has no such checkpoint, cannot load it, or does not accept the token.
        """
        timeout_sec = self._timeout_sec if connect_timeout_sec is None else connect_timeout_sec
        session = self._retry(lambda: self._open(self._server.session_address(checkpoint)), timeout_sec)
        self._on_status(keys.STATUS_READY, "")
        return session

    def _open(self, address: str) -> Session:
        with self._server.judged():
            connection = connect(address, **self._server.connect_options())
            return Session(connection, Conversation(address, self._jpeg_quality), self._on_status)

    def _retry[T](self, attempt: Callable[[], T], timeout_sec: float) -> T:
        patience = Patience(self._server, timeout_sec, self._on_status)
        while True:
            try:
                return attempt()
            except NotYetError as not_yet:
                delay_sec = patience.delay_sec(not_yet)
            time.sleep(delay_sec)
