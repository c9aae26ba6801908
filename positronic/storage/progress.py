"""A progress bar for bytes that are transferred."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from positronic.storage.client import Advance

WORTH_SHOWING_BYTES = 1 << 20


@contextmanager
def byte_bar(what: str, total_bytes: int, shown: bool = True) -> Iterator[Advance]:
    """Yields what is to be called with the bytes done. A bar on a terminal, a line in a log."""
    if not shown or total_bytes < WORTH_SHOWING_BYTES or threading.current_thread() is not threading.main_thread():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
    task = progress.add_task(what, total=total_bytes)

    seen = False

    def advance(done: int) -> None:
        nonlocal seen
        seen = True
        progress.start()  # not before there is something to show; further calls do nothing
        progress.advance(task, done)

    try:
        yield advance
    finally:
        if seen:
            progress.stop()
