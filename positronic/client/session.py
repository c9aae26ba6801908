"""One session with the inference API: observations go up, chunks of actions come down, one for one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from positronic.client.protocol import (
    CLOSE_FRAME_SEC,
    HANDSHAKE_SILENCE_SEC,
    ConnectionLost,
    ConnectionState,
    Conversation,
    InferenceError,
    ObservationTooLarge,
    RefusalError,
    SessionRefused,
    Speaker,
)
from positronic.client.status import OnStatus
from positronic.commands import ActionStep

__all__ = [
    "ConnectionLost",
    "ConnectionState",
    "InferenceError",
    "ObservationTooLarge",
    "Session",
    "SessionRefused",
]

GOODBYE_SEC = 5.0  # for the server to say it too, where the protocol has it do so


class Session(Speaker):
    """A connection that ``InferenceClient.session`` opened; a context manager. ``meta``: what the server says about
    itself.

    It is not for several threads at once, because each answer belongs to the last observation.
    """

    def __init__(
        self, connection: AbstractContextManager[ClientConnection], conversation: Conversation, on_status: OnStatus
    ) -> None:
        self._conversation, self._resources = conversation, contextlib.ExitStack()
        self._connection = self._resources.enter_context(connection)
        try:
            self._open(on_status)
        except BaseException:
            self.close()
            raise

    def infer(self, observation: Mapping[str, Any], timeout_sec: float | None = None) -> list[ActionStep]:
        """Send one observation (raw keys to arrays, numbers, lists or text) and return the chunk. An empty chunk means
        no new plan.

        This waits as long as the answer takes, or ``timeout_sec``, and asks meanwhile whether the server is there
        (websocket pings), so a slow model is no lost one. Raises InferenceError when the server cannot answer this
        observation (the session stays open), ConnectionLost when the server is gone or the time is up, PositronicError
        when the session is not ready or the observation cannot be sent. Whatever else ends the waiting, such as Ctrl-C,
        closes the session: a late answer would be taken for the next one.
        """
        frame = self._conversation.asked(observation)
        try:
            self._connection.send(frame)
            return self._conversation.answered(self._connection.recv(timeout=timeout_sec))
        except TimeoutError:
            raise self._conversation.lost(f"no answer within {timeout_sec:g} s") from None
        except (ConnectionClosed, OSError) as error:
            raise self._conversation.lost(error) from None
        finally:
            if self.state is not ConnectionState.READY:
                self.close()

    def close(self) -> None:
        """Say goodbye. Closing twice does nothing."""
        goodbye = self._conversation.goodbye()
        if goodbye is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                self._connection.send(goodbye)
                self._connection.recv(timeout=GOODBYE_SEC)
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, on_status: OnStatus) -> None:
        try:
            while True:
                waiting = self._conversation.opened(self._connection.recv(timeout=HANDSHAKE_SILENCE_SEC))
                if waiting is None:
                    return
                on_status(*waiting)
        except RefusalError as refusal:
            raise self._conversation.refused(refusal, self._closing()) from None
        except TimeoutError:
            raise self._conversation.lost(f"silent for {HANDSHAKE_SILENCE_SEC:g} s") from None
        except (ConnectionClosed, OSError) as error:
            raise self._conversation.lost(error) from None

    def _closing(self) -> ConnectionClosed | None:
        try:
            self._connection.recv(timeout=CLOSE_FRAME_SEC)
        except ConnectionClosed as closed:
            return closed
        except (TimeoutError, OSError):
            pass
        return None
