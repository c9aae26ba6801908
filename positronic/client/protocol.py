"""What is said in one session of the inference API, without a socket: frames come in, frames and sentences go out.

The two clients, with threads and with asyncio, do nothing but carry the frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, CloseCode

from positronic import keys
from positronic.client.images import are_sizes, compress_images, shrink_images
from positronic.client.local_stack import Playback, playback, understood
from positronic.client.versions import Version, version_of
from positronic.commands import ActionStep
from positronic.errors import PositronicError, listing
from positronic.utils.serialization import MAX_FRAME_BYTES, deserialise, serialise

HANDSHAKE_SILENCE_SEC = 60.0  # servers report at least every 30 s while they load
CLOSE_FRAME_SEC = 5.0  # for the server to close after it has refused; the code says whether a later try may succeed
COME_BACK_LATER = (CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER)  # the server restarts, or is full
MIB = 1 << 20

Frame = bytes | str


class InferenceError(PositronicError):
    """The server could not answer this observation. The session stays open."""


class SessionRefused(PositronicError):  # noqa: N818
    """The server will not open this session: no such checkpoint, it cannot be loaded, or the token is wrong."""


class ConnectionLost(PositronicError):  # noqa: N818
    """There is no server, or no longer one, or none that has a session to give. Open a new session."""


class ObservationTooLarge(ConnectionLost):
    """The server has closed the session because of the observation's size. It would do so again."""


class RefusalError(Exception):
    """The server opens no session now, for this reason. ``Conversation.refused`` says what that means."""


class NotYetError(Exception):
    """Worth another try."""


class PostponedError(NotYetError):
    """Worth another try, as the server itself says, in these words."""


class ConnectionState(Enum):
    """Where a session is. Observations are sent in READY only."""

    OPENING = "opening"
    READY = "ready"
    WAITING = "waiting for an answer"
    CLOSED = "closed"


class Conversation:
    """The state of one session with the server at ``address``.

    ``jpeg_quality``: pictures travel as JPEG of that quality; None: as they are. ``meta``: what the server says about
    itself. Each answer belongs to the observation before it: nobody may go on with a conversation that was left while
    it waited.
    """

    def __init__(self, address: str, jpeg_quality: int | None = None) -> None:
        self.state = ConnectionState.OPENING
        self.meta: Mapping[str, Any] = {}
        self._address, self._jpeg_quality = address, jpeg_quality
        self._version, self._playback = Version(), Playback()

    def opened(self, frame: Frame) -> tuple[str, str] | None:
        """Read a frame of the opening: None when the session is ready, or else the status that is waited in, and what
        the server says to it.

        Raises RefusalError when the server refuses the session, SessionRefused when this client cannot do what the
        server asks of it, PositronicError for a server of another protocol.
        """
        message = self._read(frame)
        status = message.get(keys.STATUS)
        if keys.ERROR in message:
            raise self._closing(RefusalError(message[keys.ERROR]))
        if status is None:
            raise self._foreign(keys.STATUS, message)
        if status != keys.STATUS_READY:
            return str(status), str(message.get(keys.MESSAGE, ""))
        self._begin(message)
        self.state = ConnectionState.READY
        return None

    def refused(self, refusal: RefusalError, reason: object) -> Exception:
        """The error to raise for a refusal after which the connection was closed for ``reason``, None if it was not:
        PostponedError when the code says that a later try may succeed, or else SessionRefused."""
        closing = _close_frame(reason)
        if closing is not None and closing.code in COME_BACK_LATER:
            return PostponedError(str(refusal))
        return SessionRefused(f"{self._address} refused the session: {refusal}")

    def asked(self, observation: Mapping[str, Any]) -> bytes:
        """The frame to send for an observation; from now on an answer is waited for.

        Raises PositronicError, and nothing has changed, when the session is not ready or the observation cannot be
        sent.
        """
        if self.state is not ConnectionState.READY:
            raise PositronicError(
                f"The session with {self._address}: expected to be {ConnectionState.READY.value}, found it "
                f"{self.state.value}. Open a new session."
            )
        smaller = shrink_images(observation, self.meta.get(keys.META_IMAGE_SIZES))
        if self._jpeg_quality is not None:
            smaller = compress_images(smaller, self._jpeg_quality)
        frame = _frame(smaller, self._version)
        self.state = ConnectionState.WAITING
        return frame

    def answered(self, frame: Frame) -> list[ActionStep]:
        """The chunk that a frame holds.

        Raises InferenceError when the server could not answer, PositronicError for steps that mean nothing: the session
        stays open. Raises ConnectionLost when the server has ended it, PositronicError for another protocol's frame.
        """
        answer = self._read(frame)
        if keys.STATUS in answer:  # some servers end a session so
            raise self.lost(answer.get(keys.ERROR))
        if keys.ERROR not in answer and keys.RESULT not in answer:
            raise self._foreign(keys.RESULT, answer)
        self.state = ConnectionState.READY
        if keys.ERROR in answer:
            raise InferenceError(f"The server could not answer: {answer[keys.ERROR]}")
        return self._steps(answer[keys.RESULT])

    def goodbye(self) -> bytes | None:
        """What to say before leaving, None if nothing; the session is closed then."""
        said = self._version.goodbye if self.state is ConnectionState.READY else None
        self.state = ConnectionState.CLOSED
        return None if said is None else serialise(said)

    def lost(self, reason: object) -> ConnectionLost:
        """The error to raise when there is no connection any more, or none worth having. The session is closed."""
        closing = _close_frame(reason)
        if closing is not None and closing.code == CloseCode.MESSAGE_TOO_BIG:
            said = f"the observation is larger than it takes ({closing.reason}). Send smaller pictures, or shorter "
            return self._closing(ObservationTooLarge(f"{self._address} closed the session: {said}values."))
        return self._closing(
            ConnectionLost(f"Lost the inference server at {self._address}: {reason}. Is it still running?")
        )

    def _begin(self, ready: Mapping[str, Any]) -> None:
        meta = ready.get(keys.META) or {}
        if isinstance(meta, Mapping):
            try:
                self._version = version_of(ready, self._address)
                self.meta = understood(meta, self._address)
                self._playback = playback(self.meta, self._address)
            except PositronicError as error:
                raise self._closing(SessionRefused(str(error))) from None
        if not isinstance(meta, Mapping) or not are_sizes(self.meta.get(keys.META_IMAGE_SIZES)):
            raise self._foreign(f"{keys.META}' as a map, with two numbers for each of '{keys.META_IMAGE_SIZES}", ready)

    def _read(self, frame: Frame) -> Mapping[Any, Any]:
        try:
            message = deserialise(frame)
        except PositronicError:
            self.state = ConnectionState.CLOSED
            raise
        return message if isinstance(message, Mapping) else {type(message).__name__: message}

    def _steps(self, result: Any) -> list[ActionStep]:
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
        said = f"{self._address}: expected a message with '{expected}', found {listing(map(str, message))}. "
        return self._closing(PositronicError(f"{said}Is it an inference server of this protocol?"))

    def _closing[E: Exception](self, error: E) -> E:
        self.state = ConnectionState.CLOSED
        return error


class Speaker:
    """Leads a conversation."""

    _conversation: Conversation

    @property
    def meta(self) -> Mapping[str, Any]:
        return self._conversation.meta

    @property
    def state(self) -> ConnectionState:
        return self._conversation.state


def _close_frame(reason: object) -> Close | None:
    return reason.rcvd if isinstance(reason, ConnectionClosed) else None


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
