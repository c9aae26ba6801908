"""A remote folder that is read while it is fetched: small files first, then large ones piece by piece.

Whoever reads a piece that is not there has it fetched at once, and waits for it alone. All other pieces come in the
background, with half of the connections, so that a reader never queues behind them. Each piece is fetched once, by one
task of the client's event loop, whoever wants it first. What was fetched when a process was killed is where the next
one goes on; the entry of the cache counts when every file is there and was compared with what was published.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from functools import partial
from pathlib import Path

from positronic.errors import PositronicError
from positronic.storage.cache import Copy, entry_of
from positronic.storage.client import Client, RemoteFile, connect, each
from positronic.storage.config import StorageConfig
from positronic.storage.entries import Begun, Held, begin
from positronic.storage.place import Select
from positronic.storage.progress import byte_bar
from positronic.storage.transfer import FETCHED_BYTES, SHA256, PartialFile, Span, pieces
from positronic.storage.uri import S3Uri

LOOK_SEC = 0.2  # between looks at what has arrived, for the progress bar

Check = Callable[[Path], None]
"""Called with a file that has arrived; raises PositronicError when it is not as it should be."""


class StreamError(PositronicError):
    """A file did not arrive while its folder was read already."""


def stream(
    folder: S3Uri, files: Sequence[RemoteFile], config: StorageConfig, large: Select, show: bool = False
) -> Held | Arriving:
    """These files of ``folder`` on the local disk, those that ``large`` takes while they are read; or all of them, when
    they are there already. ``show``: a progress bar for the small ones.

    Raises as ``cache.hold`` does.
    """
    copy = Copy(folder, files, config, show)
    begun = begin(entry_of(folder, files, config), copy)
    if isinstance(begun, Held):
        return begun
    try:
        with begun.room_required():
            missing = copy.missing(begun.entry)
            copy.fetch(begun.entry, [file for file in missing if not large(file.name)])
            return Arriving(begun, copy, [file for file in missing if large(file.name)])
    except BaseException:
        begun.close()
        raise


class Arriving:
    """A folder of the cache whose large files are on their way. ``root``: where it is; all but ``large`` is there.

    To be closed: what has not come by then is not fetched any more.
    """

    def __init__(self, begun: Begun, copy: Copy, large: Sequence[RemoteFile]) -> None:
        self.root = begun.entry.files
        self.total_bytes = sum(file.size for file in large)
        self._begun, self._copy, self._client = begun, copy, connect(copy.config)
        self._files = {self.root / file.name: _File(self._client, copy.folder, file, self.root) for file in large}
        self._background: Future[None] | None = None
        self._starting = threading.Lock()
        self._held: Held | None = None

    @property
    def arrived_bytes(self) -> int:
        """Of ``total_bytes``."""
        return sum(file.arrived_bytes for file in self._files.values())

    def open(self, path: Path) -> io.RawIOBase | None:
        """A large file for reading, whose pieces are fetched as they are read; None when it is there as a file."""
        file = self._files.get(path)
        return None if file is None or path.exists() else _Reader(file)

    def size(self, path: Path) -> int | None:
        """Bytes of a file, whether it is there or arriving; None when it is neither."""
        if path in self._files:
            return self._files[path].size
        return path.stat().st_size if path.is_file() else None

    def start(self, soonest: Sequence[Path], check: Check) -> None:
        """Fetch everything in the background: the large files ``soonest`` in this order, then the others. ``check`` is
        called for each. Does nothing the second time."""
        with self._starting:
            if self._background is None:
                order = [self._files[path] for path in dict.fromkeys((*soonest, *self._files)) if path in self._files]
                self._background = self._client.begin(self._bring(order, check))

    def wait(self, show: bool = False) -> None:
        """Until everything that was started is there. ``show``: a progress bar.

        Raises StreamError when something does not come, or comes damaged.
        """
        if self._background is None:
            raise RuntimeError("nothing was started")
        shown = 0
        with byte_bar(f"Fetching {self._copy.folder}", self.total_bytes, show) as advance:
            while not self._background.done():
                wait([self._background], LOOK_SEC)
                there = self.arrived_bytes
                advance(there - shown)
                shown = there
        try:
            self._background.result()
        except CancelledError:
            raise StreamError(f"{self._copy.folder} is not fetched any more.") from None

    def close(self) -> None:
        """Fetch no more."""
        if self._background is not None:
            self._background.cancel()
        self._client.run(self._end())
        self._begun.close()
        if self._held is not None:
            self._held.close()

    async def _bring(self, files: Sequence[_File], check: Callable[[Path], None]) -> None:
        async def bring(wanted: tuple[_File, Span | None]) -> None:
            file, span = wanted
            if span is not None:
                await file.piece(span)
            await file.finish_if_whole(check)

        await each(_wanted(files), bring, max(1, self._client.config.max_concurrency // 2))
        self._held = await asyncio.to_thread(self._begun.finish, self._copy.record)

    async def _end(self) -> None:
        for file in self._files.values():
            await file.stop()


def _wanted(files: Sequence[_File]) -> Iterator[tuple[_File, Span | None]]:
    """Every piece that is not there; None of a file whose pieces an earlier process has fetched."""
    for file in files:
        missing = file.missing()
        yield from ((file, span) for span in missing or [None])


class _File:
    """A file whose pieces arrive. Its coroutines run in one event loop, so that no lock is needed between them."""

    def __init__(self, client: Client, folder: S3Uri, file: RemoteFile, root: Path) -> None:
        self.size = file.size
        self._client, self._what, self._etag = client, folder / file.name, file.etag
        self.part = PartialFile(root / file.name, file.size)
        missing = set(self.part.missing())
        self._there = {span[0] for span in pieces(file.size, FETCHED_BYTES) if span not in missing}
        self._tasks: dict[Span, asyncio.Task[None]] = {}
        self._sha256: str | None = None
        self._finished = self._stopped = False
        self.part.open().close()  # a reader must find it, or the whole file in its place

    @property
    def arrived_bytes(self) -> int:
        """Of its size."""
        return min(self.size, len(self._there) * FETCHED_BYTES)

    def missing(self) -> list[Span]:
        """Pieces that are not there yet."""
        return [span for span in pieces(self.size, FETCHED_BYTES) if span[0] not in self._there]

    def require(self, start: int, stop: int) -> None:
        """Wait until the bytes ``start:stop`` are there. In any thread. Raises StreamError."""
        first = start // FETCHED_BYTES * FETCHED_BYTES
        spans = [(at, min(at + FETCHED_BYTES, self.size)) for at in range(first, stop, FETCHED_BYTES)]
        absent = [span for span in spans if span[0] not in self._there]
        if absent:
            try:
                self._client.run(each(absent, self.piece, len(absent)))
            except CancelledError:
                raise self._no_more() from None

    async def piece(self, span: Span) -> None:
        """Wait until it is there."""
        if self._stopped:
            raise self._no_more()
        if span not in self._tasks:
            self._tasks[span] = asyncio.create_task(self._fetch(span))
        await asyncio.shield(self._tasks[span])

    async def _fetch(self, span: Span) -> None:
        if span[0] in self._there:
            return
        try:
            known = await self._client.get_span(self._what, self._etag, span, partial(self.part.write, span))
        except PositronicError as error:
            raise StreamError(str(error)) from error
        self._sha256 = known.get(SHA256)
        self._there.add(span[0])

    async def finish_if_whole(self, check: Callable[[Path], None]) -> None:
        """Give it its name when its last piece is there."""
        if self._finished or self.missing():
            return
        self._finished = True
        sha256 = self._sha256 or ((await self._client.head(self._what) or {}).get("Metadata") or {}).get(SHA256)
        try:
            await asyncio.to_thread(self.part.finish, sha256)
            await asyncio.to_thread(check, self.part.target)
        except PositronicError as error:
            self.part.target.unlink(missing_ok=True)
            raise StreamError(f"{error} Some of its frames may have been trained on already.") from error

    async def stop(self) -> None:
        """End what is being fetched, and begin nothing more."""
        self._stopped = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _no_more(self) -> StreamError:
        return StreamError(f"{self._what} is not fetched any more.")


class _Reader(io.RawIOBase):
    """What reads a file that is arriving."""

    def __init__(self, file: _File) -> None:
        self._file, self._at = file, 0
        try:
            self._bytes = file.part.path.open("rb")
        except FileNotFoundError:  # it has become whole
            self._bytes = file.part.target.open("rb")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes. Raises StreamError when they do not arrive."""
        stop = self._file.size if size < 0 else min(self._at + size, self._file.size)
        if stop <= self._at:
            return b""
        self._file.require(self._at, stop)
        found = os.pread(self._bytes.fileno(), stop - self._at, self._at)
        self._at += len(found)
        return found

    def close(self) -> None:
        """Close the file."""
        self._bytes.close()
        super().close()
