"""The progress of a training that a child does: its lines become our bar, our metrics.jsonl and our tracker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from positronic.training.reporting import LINE_INTERVAL_SEC, step_bar
from positronic.training.trackers import Tracker

LOADING, TRAINING = "load", "train"


@dataclass(frozen=True)
class Reading:
    """What a line says. ``step``: how many are done. ``metrics``: by our names, ``loss``, ``lr``, ``grad_norm``; empty
    if the line tells none. ``steps_per_sec``: None if it is not told, then it is measured."""

    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    steps_per_sec: float | None = None


class ChildProgress:
    """Steps ``start + 1`` to ``total``; a context manager, and the ``on_line`` of a child.

    ``parse``: what a line says, None for most. A reading with a loss becomes a row of ``metrics_file``, as the rows of
    our own loop are, and goes to ``tracker``, which is closed at the end; one whose step was told before does not.
    """

    def __init__(
        self,
        metrics_file: Path,
        start: int,
        total: int,
        tracker: Tracker,
        console: Console,
        parse: Callable[[str], Reading | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._total, self._tracker = metrics_file, total, tracker
        self._console, self._parse, self._clock = console, parse, clock
        self._told = start  # the step of the last row
        self._first: tuple[int, float] | None = None  # step and time of the first reading: before it, it loads
        self._values = ""
        self._last_line = clock()
        self._progress = step_bar(console)
        self._task = self._progress.add_task(LOADING, total=total, completed=start, values="")

    def __enter__(self) -> Self:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._tracker.close()

    def __call__(self, line: str) -> None:
        """A line of the child."""
        reading = self._parse(line)
        if reading is None:
            return
        now = self._clock()
        self._first = self._first or (reading.step, now)
        rate = reading.steps_per_sec or self._measured(reading.step, now)
        if "loss" in reading.metrics:
            self._row(reading)
            self._values = "  ".join(_told(reading.metrics))
        values = self._values if rate is None else f"{self._values}  {rate:.2f} steps/s"
        self._progress.update(self._task, description=TRAINING, completed=reading.step, values=values)
        due = now - self._last_line >= LINE_INTERVAL_SEC or reading.step >= self._total
        if due and "loss" in reading.metrics and not self._console.is_terminal:
            self._last_line = now
            self._console.print(f"step {reading.step}/{self._total}  {values}", highlight=False, soft_wrap=True)

    def _row(self, reading: Reading) -> None:
        if reading.step <= self._told:  # a resumed child repeats some
            return
        self._told = reading.step
        row = {"step": reading.step, **reading.metrics}
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._tracker.log(row)

    def _measured(self, step: int, now: float) -> float | None:
        """Steps a second since the first reading."""
        first, began = self._first
        return (step - first) / (now - began) if step > first and now > began else None


def _told(metrics: Mapping[str, float]) -> list[str]:
    rate = [f"lr {metrics['lr']:.2e}"] if "lr" in metrics else []
    return [f"loss {metrics['loss']:.4f}", *rate]
