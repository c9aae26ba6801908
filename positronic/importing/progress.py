"""The import's progress bar: episodes, bytes a second, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bar(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what counts an episode of so many bytes. Without episodes, nothing is shown."""
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    written = 0
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not total) as progress:
        task = progress.add_task("import", total=total, speed="")

        def advance(size: int) -> None:
            nonlocal written
            written += size
            elapsed = progress.tasks[0].elapsed
            progress.update(task, advance=1, speed=f"{written / elapsed / 1e6:.1f} MB/s" if elapsed else "")

        yield advance


@contextmanager
def counting(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """The same for episodes that are only read: yields what counts one."""
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("read", total=total)
        yield lambda: progress.update(task, advance=1)
