"""What a run reports while it trains: a progress bar or lines, ``metrics.jsonl``, and what goes to a tracker."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from positronic.training.frames import Sides
from positronic.training.trackers import Tracker

LINE_INTERVAL_SEC = 15.0  # between lines where there is no terminal
MEASURED_STEPS = 10  # after so many the expected duration is told


def step_bar(console: Console) -> Progress:
    """A progress bar on a terminal, whose tasks have a field ``values``."""
    what, values = TextColumn("{task.description}"), TextColumn("{task.fields[values]}")
    columns = (what, BarColumn(), MofNCompleteColumn(), values, TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


class Silent:
    """Of the processes that follow the first one."""

    def step(self, step: int) -> None:
        """Nothing."""

    def metrics(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""


class Reporter:
    """Progress of steps ``start + 1`` to ``total``, and of the ``frames`` that are decoded meanwhile. Context
    manager."""

    def __init__(
        self, metrics_file: Path, start: int, total: int, tracker: Tracker, console: Console, frames: Sides
    ) -> None:
        self._file = metrics_file
        self._start, self._total = start, total
        self._timed_from = start  # the first step warms up, and is left out of rates once there are others
        self._tracker = tracker
        self._console = console
        self._began = time.perf_counter()
        self._first_took = 1.0
        self._last_line = self._began
        self._frames = frames
        self._progress = step_bar(console)
        self._task = self._progress.add_task("train", total=total, completed=start, values="")
        self._filling = self._progress.add_task("frames", visible=False, values="")
        self._show_filled()

    def __enter__(self) -> Self:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._tracker.close()

    def say(self, text: str) -> None:
        """A line above the progress bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def step(self, step: int) -> None:
        """Step ``step`` is done."""
        self._progress.update(self._task, completed=step)
        self._show_filled()
        if step == self._start + 1 < self._total:
            self._first_took = time.perf_counter() - self._began
            self._began, self._timed_from = time.perf_counter(), step
        if step == self._start + MEASURED_STEPS and self._total > step:
            minutes = self._seconds_left(step) / 60
            self.say(f"{self._total - self._start} steps, about {minutes:.1f} min.")

    def metrics(self, metrics: Mapping[str, float]) -> None:
        """Write a row of metrics; it holds ``step``, ``loss`` and ``lr``."""
        with self._file.open("a") as file:
            file.write(json.dumps(dict(metrics)) + "\n")
        self._tracker.log(metrics)
        step = int(metrics["step"])
        held_out = f"  val loss {metrics['val_loss']:.4f}" if "val_loss" in metrics else ""
        values = f"loss {metrics['loss']:.4f}{held_out}  lr {metrics['lr']:.2e}  "
        values += f"{1 / self._seconds_per_step(step):.2f} steps/s"
        self._progress.update(self._task, completed=step, values=values)
        self._line(step, values, bool(held_out))

    def _line(self, step: int, values: str, matters: bool) -> None:
        now = time.perf_counter()
        due = matters or now - self._last_line >= LINE_INTERVAL_SEC or step == self._total
        if due and not self._console.is_terminal:
            self._last_line = now
            filled = self._frames.filled
            rest = f"{self._seconds_left(step) / 60:.1f} min left" + (f"; {filled}" if filled else "")
            self.say(f"step {step}/{self._total}  {values}  {rest}")

    def _show_filled(self) -> None:
        filled = self._frames.filled
        self._progress.update(self._filling, visible=filled is not None)
        if filled is not None:
            values = str(filled)
            self._progress.update(self._filling, completed=filled.frames, total=filled.of_frames, values=values)

    def _seconds_left(self, step: int) -> float:
        return self._seconds_per_step(step) * (self._total - step)

    def _seconds_per_step(self, step: int) -> float:
        timed = step - self._timed_from
        return (time.perf_counter() - self._began) / timed if timed else self._first_took
