"""The bake's progress bar: episodes, frames a second, time left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from positronic.bake.run import Progress


class _Speed(ProgressColumn):
    """Asks the counter at each refresh, so that it also moves during a long episode."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._counter = progress.counter

    def render(self, task: Task) -> Text:
        frames = self._counter.value
        return Text(f"{frames} frames, {frames / task.elapsed:.0f} frames/s" if task.elapsed else f"{frames} frames")


class Bar(Progress):
    """A context manager: shows a bar from the first episode until the end."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), _Speed(self), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=console)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar.tasks:  # else nothing was shown, and stopping would print an empty line
            self._bar.stop()

    def begin(self, total: int) -> None:
        self._task = self._bar.add_task("bake", total=total)
        self._bar.start()

    def episode_done(self, done: int) -> None:
        self._bar.update(self._task, completed=done)
