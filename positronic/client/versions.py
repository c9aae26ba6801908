"""The versions of the protocol that servers in the field speak.

Version 1, ours and that of Positronic 0.2 to 0.4: an observation travels as it is, and the client just leaves. In
versions 2 and 3, those of the model servers of Positronic 0.4, each request names the session, and a client that leaves
says so; the server repeats it when it has let go of the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from positronic import keys
from positronic.errors import PositronicError

NEWEST = 3


@dataclass(frozen=True)
class Version:
    """How one session's requests are written. ``session_id``: None in version 1."""

    session_id: str | None = None

    def request(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is sent for an observation."""
        if self.session_id is None:
            return observation
        return {keys.SESSION_ID: self.session_id, keys.OBSERVATION: observation}

    @property
    def goodbye(self) -> Mapping[str, Any] | None:
        """What is sent before leaving, and comes back; None where one just leaves."""
        if self.session_id is None:
            return None
        return {keys.SESSION_ID: self.session_id, keys.END_SESSION: True}


def version_of(ready: Mapping[str, Any], server: str) -> Version:
    """The version that a server has chosen in its ready message. Raises PositronicError for one that is not known."""
    number = ready.get(keys.PROTOCOL_VERSION, 1)
    if type(number) is not int or not 1 <= number <= NEWEST:
        raise PositronicError(
            f"{server}: expected protocol version 1 to {NEWEST}, found {number!r}. The server is newer than this "
            "client: update the client, or serve the checkpoint with `python run.py stage=serve`, which speaks version "
            "1."
        )
    if number == 1:
        return Version()
    session_id = ready.get(keys.SESSION_ID)
    if not isinstance(session_id, str):
        raise PositronicError(
            f"{server} speaks protocol version {number}: expected a '{keys.SESSION_ID}' as text in its ready message, "
            f"found {type(session_id).__name__}."
        )
    return Version(session_id)
