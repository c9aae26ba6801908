"""Asking a policy, at once or while the robot moves on, and when its answer is there by the robot's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from positronic.commands import ActionStep
from positronic.rollout.playback import to_ns
from positronic.rollout.policies import Policy

Chunk = Sequence[ActionStep]


@dataclass(frozen=True)
class Coming:
    """An answer that was asked for. ``latency_ns``: how much later it is there, by the robot's clock. ``chunk``: waits
    for it and returns it; raises what the policy raises."""

    latency_ns: int
    chunk: Callable[[], Chunk]


class Questioner:
    """Asks ``policy``, one question at a time, and keeps how long each answer took by the wall's clock.

    ``counts``: whether that passes on the robot's clock, too. ``latency_sec``: what passes there instead; then a
    policy that ``overlaps`` is asked in a thread, so that robot and policy work at the same time. What is answered, and
    when by the robot's clock, does not depend on that.
    """

    def __init__(self, policy: Policy, counts: bool, latency_sec: float | None, overlaps: bool) -> None:
        self.latencies_ms: list[float] = []
        self._policy, self._counts, self._latency_sec = policy, counts, latency_sec
        self._thread = ThreadPoolExecutor(1, "policy") if overlaps and latency_sec is not None else None

    def ask(self, observation: Mapping[str, Any]) -> Coming:
        """Ask about an observation."""
        if self._thread is not None:
            return Coming(self._latency_ns(), self._thread.submit(self._infer, observation).result)
        chunk = self._infer(observation)
        return Coming(self._latency_ns(), lambda: chunk)

    def close(self, wait: bool = True) -> None:
        """End the thread. ``wait``: for an answer that is still to come, and is of no use any more."""
        if self._thread is not None:
            self._thread.shutdown(wait, cancel_futures=not wait)

    def _latency_ns(self) -> int:
        if not self._counts:
            return 0
        return to_ns(self.latencies_ms[-1] / 1e3 if self._latency_sec is None else self._latency_sec)

    def _infer(self, observation: Mapping[str, Any]) -> Chunk:
        begin = time.perf_counter()
        chunk = self._policy.infer(observation)
        self.latencies_ms.append((time.perf_counter() - begin) * 1e3)
        return chunk
