"""Errors of a disk as one sentence: it is full, read-only, not ours, or another process writes there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from positronic.errors import PositronicError
from positronic.utils.locks import try_lock

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES)
# Libraries in other languages, and workers in other processes, only give a text.
IN_TEXTS = (*FULL, errno.EROFS)
NUMPYS = re.compile(r"\b\d+ requested and \d+ written")  # numpy's whole message, without a number


def require_writable(folder: Path) -> None:
    """Raise PositronicError unless this process may write into ``folder``, which exists or can be made."""
    place = folder.absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    if not there.is_dir():
        raise PositronicError(f"{folder} cannot be a folder: {there} is a file. Write elsewhere: output_dir=<folder>.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PositronicError(f"Cannot write into {there}, where {folder} is to be. {_advice(errno.EACCES)}")


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make ``folder`` and keep other processes out until the context ends; remove it if it is still empty then.

    Raises PositronicError when another process is in it, or when it cannot be written to. The lock ends with the
    process, in every case. If a file system has no locks, two processes may meet.
    """
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        _lock(opened, folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
    finally:
        os.close(opened)


def _lock(opened: int, folder: Path) -> None:
    try:
        ours = try_lock(opened)
    except OSError:  # a file system without locks
        return
    if not ours:
        raise PositronicError(
            f"Another process is writing into {folder}. Wait for it, or write elsewhere: output_dir=<folder>."
        )


def refused_by_disk(error: BaseException) -> PositronicError | None:
    """The sentence for an error that a full or write-protected disk caused, directly or through other errors. None for
    others."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (*FULL, *FORBIDDEN):
            where = f" ({cause.filename})" if cause.filename else ""
            return PositronicError(f"{os.strerror(cause.errno)}{where}. {_advice(cause.errno)}")
        if isinstance(cause, OSError) and cause.errno == errno.ENOENT and _is_removed(cause.filename):
            return PositronicError(
                f"The folder of {cause.filename} is gone: somebody has removed it meanwhile. Start again, or "
                "write elsewhere: output_dir=<folder>."
            )
        number = _said_by(str(cause))
        if number is not None:
            return PositronicError(f"{os.strerror(number)}. {_advice(number)}")
    return None


def _is_removed(name: object) -> bool:
    return isinstance(name, str) and not Path(name).absolute().parent.exists()


def _said_by(text: str) -> int | None:
    known = (number for number in IN_TEXTS if os.strerror(number) in text)
    return next(known, errno.ENOSPC if NUMPYS.search(text) else None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _advice(number: int) -> str:
    elsewhere = "write elsewhere: output_dir=<folder>"
    if number == errno.EFBIG:
        return (
            f"What was finished before is kept. `ulimit -f` limits the size of a file here: raise it, or {elsewhere}."
        )
    if number in FULL:
        return f"What was finished before is kept. Make room (`df -h` tells where there is some), or {elsewhere}."
    return f"Get the permission to write there, or {elsewhere}."
