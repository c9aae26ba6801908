"""One session with the inference API: observations go up, chunks of actions come down, one for one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import Enum
from types import TracebackType
from typing import Any, NoReturn, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from positronic import keys
from positronic.client.images import are_sizes, shrink_images
from positronic.client.local_stack import Playback, playback, understood
from positronic.client.status import OnStatus
from positronic.client.versions import Version, version_of
from positronic.commands import ActionStep
from positronic.errors import PositronicError, listing
from positronic.utils.serialization import MAX_FRAME_BYTES, deserialise, serialise

HANDSHAKE_SILENCE_SEC = 60.0  # servers report at least every 30 s while they load
TOO_BIG = 1009  # websockets' code for a frame over the limit
GOODBYE_SEC = 5.0  # for the server to say it too, where the protocol has it do so
MIB = 1 << 20


class InferenceError(PositronicError):
    """The server could not answer this observation. The session stays open."""


class SessionRefused(PositronicError):  # noqa: N818
    """The server will not open this session: no such checkpoint, it cannot be loaded, or the token is wrong."""


class ConnectionLost(PositronicError):  # noqa: N818
    """There is no server, or no longer one. Open a new session."""


class ConnectionState(Enum):
    """Where a session is. Observations are sent in READY only."""

    OPENING = "opening"
    READY = "ready"
    WAITING = "waiting for an answer"
    CLOSED = "closed"


class Session:
    """A connection that ``InferenceClient.session`` opened; a context manager. ``meta``: what the server says about
    itself.

    It is not for several threads at once, because each answer belongs to the last observation.
    """

    def __init__(self, connection: AbstractContextManager[ClientConnection], address: str, on_status: OnStatus) -> None:
        self._resources = contextlib.ExitStack()
        self._connection = self._resources.enter_context(connection)
        self._address = address
        self._state = ConnectionState.OPENING
        self._version = Version(1)
        self._playback = Playback()
        self.meta: Mapping[str, Any] = {}
        try:
            self._begin(self._handshake(on_status))
        except BaseException:
            self.close()
            raise
        self._state = ConnectionState.READY

    @property
    def state(self) -> ConnectionState:
        return self._state

    def infer(self, observation: Mapping[str, Any]) -> list[ActionStep]:
        """Send one observation (raw keys to arrays, numbers, lists or text) and return the chunk. An empty chunk means
        no new plan.

        This waits as long as the answer takes, and asks meanwhile whether the server is there (websocket pings), so a
        slow model is no lost one. Ctrl-C ends the waiting. Raises InferenceError when the server cannot answer this
        observation (the session stays open), ConnectionLost when the server is gone, PositronicError when the session
        is not ready or the observation cannot be sent.
        """
        self._require(ConnectionState.READY)
        frame = _frame(shrink_images(observation, self.meta.get(keys.META_IMAGE_SIZES)), self._version)
        self._state = ConnectionState.WAITING
        answer = self._exchange(frame)
        self._state = ConnectionState.READY
        return self._steps(answer)

    def close(self) -> None:
        """Say goodbye. Closing twice does nothing."""
        if self._state is ConnectionState.READY:
            self._say_goodbye()
        self._state = ConnectionState.CLOSED
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require(self, expected: ConnectionState) -> None:
        if self._state is not expected:
            raise PositronicError(
                f"The session with {self._address}: expected to be {expected.value}, found it {self._state.value}. "
                "Open a new session."
            )

    def _handshake(self, on_status: OnStatus) -> Mapping[str, Any]:
        while True:
            message = self._receive(HANDSHAKE_SILENCE_SEC)
            status = message.get(keys.STATUS)
            if keys.ERROR in message:
                raise SessionRefused(f"{self._address} refused the session: {message[keys.ERROR]}")
            if status == keys.STATUS_READY:
                return message
            if status is None:
                raise self._foreign(keys.STATUS, message)
            on_status(str(status), str(message.get(keys.MESSAGE, "")))

    def _begin(self, ready: Mapping[str, Any]) -> None:
        meta = ready.get(keys.META) or {}
        if isinstance(meta, Mapping):
            try:
                self._version = version_of(ready, self._address)
                self.meta = understood(meta, self._address)
                self._playback = playback(self.meta, self._address)
            except PositronicError as error:
                raise SessionRefused(str(error)) from None
        if not isinstance(meta, Mapping) or not are_sizes(self.meta.get(keys.META_IMAGE_SIZES)):
            raise self._foreign(f"{keys.META}' as a map, with two numbers for each of '{keys.META_IMAGE_SIZES}", ready)

    def _say_goodbye(self) -> None:
        if self._version.goodbye is None:
            return
        with contextlib.suppress(ConnectionClosed, TimeoutError, OSError):
            self._connection.send(serialise(self._version.goodbye))
            self._connection.recv(timeout=GOODBYE_SEC)

    def _exchange(self, frame: bytes) -> Mapping[str, Any]:
        try:
            self._connection.send(frame)
        except (ConnectionClosed, OSError) as error:
            self._lost(error)
        answer = self._receive(None)
        if keys.STATUS in answer:  # some servers end a session so
            self._lost(answer.get(keys.ERROR))
        if keys.ERROR not in answer and keys.RESULT not in answer:
            self.close()
            raise self._foreign(keys.RESULT, answer)
        return answer

    def _receive(self, timeout_sec: float | None) -> Mapping[str, Any]:
        try:
            frame = self._connection.recv(timeout=timeout_sec)
        except TimeoutError:
            self._lost(f"silent for {HANDSHAKE_SILENCE_SEC:g} s")
        except (ConnectionClosed, OSError) as error:
            self._lost(error)
        try:
            message = deserialise(frame)
        except PositronicError:
            self.close()
            raise
        return message if isinstance(message, Mapping) else {type(message).__name__: message}

    def _steps(self, answer: Mapping[str, Any]) -> list[ActionStep]:
        if keys.ERROR in answer:
            raise InferenceError(f"The server could not answer: {answer[keys.ERROR]}")
        result = answer[keys.RESULT]
        if isinstance(result, Mapping):
            result = [result]
        try:
            return [ActionStep.from_wire(step) for step in self._playback.timed(result or [], self._address)]
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise PositronicError(
                f"{self._address}: expected action steps in '{keys.RESULT}', found something else ({error}). "
                "Is it an inference server of this protocol?"
            ) from None

    def _foreign(self, expected: str, message: Mapping[Any, Any]) -> PositronicError:
        return PositronicError(
            f"{self._address}: expected a message with '{expected}', found {listing(map(str, message))}. "
            "Is it an inference server of this protocol?"
        )

    def _lost(self, reason: object) -> NoReturn:
        self.close()
        if isinstance(reason, ConnectionClosed) and reason.rcvd is not None and reason.rcvd.code == TOO_BIG:
            raise ConnectionLost(
                f"{self._address} closed the session: the observation is larger than it takes ({reason.rcvd.reason}). "
                "Send smaller pictures, or shorter values."
            ) from None
        raise ConnectionLost(f"Lost the inference server at {self._address}: {reason}. Is it still running?") from None


def _frame(observation: Mapping[str, Any], version: Version) -> bytes:
    frame = serialise(version.request(observation))
    if len(frame) > MAX_FRAME_BYTES:
        sizes = {key: len(serialise(value)) for key, value in observation.items()}
        largest = max(sizes, key=sizes.__getitem__)
        raise PositronicError(
            f"The observation takes {len(frame) / MIB:.1f} MiB, a server of this protocol at most "
            f"{MAX_FRAME_BYTES / MIB:.0f} MiB. The largest value is '{largest}' ({sizes[largest] / MIB:.1f} MiB): send "
            "a smaller one."
        )
    return frame
