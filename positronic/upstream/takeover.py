"""Checkpoints that a child writes become checkpoints of the experiment, each as soon as it is whole."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

LOOK_EVERY_SEC = 1.0

Found = Iterable[tuple[int, Path]]
"""Checkpoints that are whole: how many steps were trained, and the child's folder."""


class Takeover:
    """A context manager: while it lasts, a thread calls ``take`` for each checkpoint that ``find`` finds, smallest step
    first and each once; those that are there at the end are taken before it is left.

    ``done``: steps that were taken before. Raises, when it is left, what ``take`` or ``find`` raised; then ``fail`` was
    called, which ends the child.
    """

    def __init__(
        self,
        find: Callable[[], Found],
        take: Callable[[int, Path], None],
        done: Iterable[int],
        fail: Callable[[], None],
    ) -> None:
        self._find, self._take, self._done, self._fail = find, take, set(done), fail
        self._over = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed
        self._look()

    def _watch(self) -> None:
        try:
            while not self._over.wait(LOOK_EVERY_SEC):
                self._look()
        except Exception as error:  # a full disk, say
            self._failed = error
            self._fail()

    def _look(self) -> None:
        for step, folder in sorted(self._find()):
            if step not in self._done:
                self._take(step, folder)
                self._done.add(step)


def link_or_copy(source: Path, target: Path) -> None:
    """The file at another place too, without its bytes twice where the file system can: nobody may write into it."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def link_or_copy_tree(source: Path, target: Path) -> None:
    """The same for every file of a folder; ``target`` is made."""
    shutil.copytree(source, target, copy_function=link_or_copy)
