"""How one session's observations are read and its answers written, in the worker. One object for each session.

Sessions of both protocols share policies and batches: what the model takes and gives is the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.commands import chunks_to_wire
from positronic.serving.columns import ModelInputs
from positronic.serving.failures import Failure, attempt
from positronic.serving.messages import OPENPI, POSITRONIC, Reply, failed_reply, ready_frame
from positronic.serving.meta import public_meta
from positronic.serving.policy import ServedPolicy
from positronic.utils.serialization import serialise

MS = 1000.0


class Wire(Protocol):
    """What a session's client is told, as frames."""

    def ready(self, policy: ServedPolicy) -> bytes:
        """The session holds ``policy`` from now on."""
        ...

    def encode(self, policy: ServedPolicy, observation: Any) -> dict[str, Any]:
        """An observation as the model takes it. Raises PositronicError if it cannot be taken."""
        ...

    def answer(self, policy: ServedPolicy, chunk: NDArray[np.float32], model_sec: float) -> bytes:
        """A chunk (H, A) from a forward pass of ``model_sec``. Raises PositronicError if it cannot be answered."""
        ...


class PositronicWire:
    """Protocol version 1: raw signals in, action steps out."""

    def ready(self, policy: ServedPolicy) -> bytes:
        return ready_frame(public_meta(policy.meta))

    def encode(self, policy: ServedPolicy, observation: Any) -> dict[str, Any]:
        return policy.encode(observation)

    def answer(self, policy: ServedPolicy, chunk: NDArray[np.float32], model_sec: float) -> bytes:
        (frame,) = _result_frames(policy, [chunk])
        return frame


class OpenPiWire:
    """openpi's: the model's columns in, its own actions out, all of the chunk, and how long it took."""

    def __init__(self) -> None:
        self._inputs: ModelInputs | None = None
        self._asked_sec = 0.0
        self._last_sec: float | None = None

    def ready(self, policy: ServedPolicy) -> bytes:
        self._inputs = ModelInputs.of(policy)
        columns = {keys.OBSERVATION: self._inputs.described, keys.OPENPI_ACTIONS: _described_actions(policy)}
        return serialise(public_meta(policy.meta) | columns)

    def encode(self, policy: ServedPolicy, observation: Any) -> dict[str, Any]:
        self._asked_sec = time.monotonic()
        return self._inputs.encode(observation)

    def answer(self, policy: ServedPolicy, chunk: NDArray[np.float32], model_sec: float) -> bytes:
        (actions,) = policy.recipe.codec.require_chunks([chunk])
        took_sec = time.monotonic() - self._asked_sec
        server = {keys.OPENPI_INFER_MS: took_sec * MS}
        if self._last_sec is not None:
            server[keys.OPENPI_LAST_MS] = self._last_sec * MS
        frame = serialise(
            {
                keys.OPENPI_ACTIONS: actions.astype(np.float32),
                keys.OPENPI_POLICY_TIMING: {keys.OPENPI_INFER_MS: model_sec * MS},
                keys.OPENPI_SERVER_TIMING: server,
            }
        )
        self._last_sec = time.monotonic() - self._asked_sec
        return frame


WIRES: Mapping[str, type[Wire]] = {POSITRONIC: PositronicWire, OPENPI: OpenPiWire}


def answers(
    wires: Sequence[Wire], policy: ServedPolicy, outcomes: Sequence[NDArray[np.float32] | Failure], model_sec: float
) -> list[tuple[Reply, bytes]]:
    """What the sessions of a pass are told, one for each. Chunks are decoded together if nothing is wrong with any."""
    plain = [
        number
        for number, (wire, outcome) in enumerate(zip(wires, outcomes, strict=True))
        if isinstance(wire, PositronicWire) and not isinstance(outcome, Failure)
    ]
    frames = attempt(lambda numbers: _result_frames(policy, [outcomes[each] for each in numbers]), plain, log=False)
    told = {} if isinstance(frames, Failure) else dict(zip(plain, frames, strict=True))
    return [
        (Reply.ANSWER, told[number]) if number in told else reply_to(wire, policy, outcome, model_sec)
        for number, (wire, outcome) in enumerate(zip(wires, outcomes, strict=True))
    ]


def _result_frames(policy: ServedPolicy, chunks: Sequence[NDArray[np.float32]]) -> list[bytes]:
    steps = policy.recipe.codec.decode_each(chunks) if chunks else []
    return [serialise({keys.RESULT: wire}) for wire in chunks_to_wire(steps)]


def reply_to(
    wire: Wire, policy: ServedPolicy, outcome: NDArray[np.float32] | Failure, model_sec: float
) -> tuple[Reply, bytes]:
    """What a session's client is told of an observation: an answer, or why there is none or it cannot travel."""
    if not isinstance(outcome, Failure):
        outcome = attempt(lambda chunk: wire.answer(policy, chunk, model_sec), outcome)
    return failed_reply(outcome.reason) if isinstance(outcome, Failure) else (Reply.ANSWER, outcome)


def _described_actions(policy: ServedPolicy) -> dict[str, int]:
    """Numbers of each part of an action, in their order."""
    return {source.name: source.shape[0] for source in policy.recipe.modality.action_column.sources}
