"""When the inference worker is started anew, and what its sessions are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from websockets.frames import CloseCode

DEVICE_LOST = 70  # the worker's exit code when no further call of CUDA succeeds in its process
NEW_WORKER = "A new worker starts; open a new session."
NO_MORE = "The server ends; connect again later."


@dataclass(frozen=True)
class Loss:
    """The worker has gone. ``reason``: a sentence for people. ``ends``: there will be no new one. ``is_stopping``: the
    server had been asked to end before."""

    reason: str
    ends: bool
    is_stopping: bool = False

    @property
    def close_code(self) -> CloseCode:
        """That its sessions are closed with."""
        fails = self.ends and not self.is_stopping
        return CloseCode.INTERNAL_ERROR if fails else CloseCode.SERVICE_RESTART

    def __str__(self) -> str:
        return f"{self.reason} {NO_MORE if self.ends else NEW_WORKER}"


class Restarts:
    """Allows ``most`` restarts within ``window_sec``: a worker that cannot live must not be started for ever."""

    def __init__(self, most: int, window_sec: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._window_sec, self._clock = most, window_sec, clock
        self._times: list[float] = []

    def take(self) -> bool:
        """Whether there may be a restart now, which counts from now on."""
        now_sec = self._clock()
        self._times = [each for each in self._times if now_sec - each < self._window_sec]
        if len(self._times) >= self._most:
            return False
        self._times.append(now_sec)
        return True


def silent_for(silence_sec: float) -> str:
    """Why a worker was killed that gave no sign of life."""
    return f"The model gave no sign of life for {silence_sec:g} s: it hangs, or its process was stopped."


def ended_with(exit_code: int | None) -> str:
    """Why there is no worker, by its exit code; a signal's is negative."""
    meanings = {-9: "killed, usually for lack of memory", DEVICE_LOST: "the device has failed for good"}
    meaning = f": {meanings[exit_code]}" if exit_code in meanings else ""
    return f"The inference worker ended unexpectedly (exit code {exit_code}{meaning})."
