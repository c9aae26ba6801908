"""Folders that are written: local ones directly, remote ones in a work folder on this machine that is uploaded.

A work folder is ``<cache_dir>/outgoing/<hash>/<name>``, one for each remote folder. The process that fills it holds its
lock, and it is removed when all of it is uploaded. If an upload fails, the work folder stays, so that a network fault
loses nothing that was trained, baked or recorded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from positronic.errors import PositronicError
from positronic.storage.client import RemoteFile, connect, each
from positronic.storage.config import StorageConfig, endpoint_of
from positronic.storage.entries import cache_root
from positronic.storage.faults import PreconditionError
from positronic.storage.folder import RemoteFolder, folder
from positronic.storage.progress import byte_bar
from positronic.storage.publishing import CLAIMS, Unit, publish, unpublish
from positronic.storage.transfer import SHA256, download
from positronic.utils.disk import alone_in
from positronic.utils.locks import hold_folder, try_lock

logger = logging.getLogger(__name__)

OUTGOING = "outgoing"
STARTED_FILE = "started.json"
INTERVAL_SEC = 5.0


class Growing(NamedTuple):
    """What is in a folder that grows.

    ``units``: the finished ones. ``is_inside``: whether a file, by its name, belongs to a unit, finished or not.
    ``restore``: which names of a remote folder are needed to continue; unfinished units are among the names.
    ``superfluous``: the units in a remote folder that may go, as the name of their folder and of their last file.
    """

    units: Callable[[Path], Iterable[Unit]]
    is_inside: Callable[[str], bool]
    restore: Callable[[Sequence[str]], Iterable[str]] = lambda names: names
    superfluous: Callable[[RemoteFolder], Iterable[tuple[str, str]]] = lambda place: ()


@contextmanager
def local_output(uri: str | Path, config: StorageConfig | None = None, last: str | None = None) -> Iterator[Path]:
    """A path where a folder is to be made. A context that ends well publishes it at ``uri``, with the file ``last``
    after the others.

    A local path is given as it is, and nothing else happens. After an exception, files beside the path stay for the
    next run. Raises PositronicError when something is at ``uri``, before or after the work.
    """
    place = folder(uri, config)
    if place.local is not None:
        yield place.local
        return
    with _work_folder(place) as work:
        unit = Unit(work, last)
        if work.exists():
            _publish_or_keep(unit, place)
            shutil.rmtree(work)
            raise PositronicError(f"An earlier run made {place} and could not upload it. It is uploaded now.")
        if place.exists() if last is None else place.read_bytes(last) is not None:
            raise PositronicError(f"{place} exists already. Remove it, or write elsewhere with output_dir=...")
        yield work
        _publish_or_keep(unit, place)
        shutil.rmtree(work.parent)


@contextmanager
def replaced_output(uri: str | Path, config: StorageConfig | None, last: str) -> Iterator[Path]:
    """A path where loose files are to be made. A context that ends well uploads them to ``uri``, in place of those of
    the same names and beside whatever else is there, with the file ``last`` after the others.

    A local path is given as it is, and nothing else happens. Raises PositronicError when the upload fails.
    """
    place = folder(uri, config)
    if place.local is not None:
        yield place.local
        return
    with _work_folder(place) as work:
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        try:
            yield work
            files = [path for path in work.rglob("*") if path.is_file()]
            _put_all(place, work, [path for path in files if path != work / last], show=True)
            _put_all(place, work, [work / last])
        finally:
            shutil.rmtree(work.parent, ignore_errors=True)


@contextmanager
def synced_output(
    uri: str | Path, growing: Growing, config: StorageConfig | None = None, resume: bool = False, hint: str = ""
) -> Iterator[Path]:
    """A folder to fill. Its finished units are uploaded to ``uri`` while it grows; the rest is uploaded when the
    context ends.

    ``resume``: continue with what is there. Otherwise there must be nothing, or PositronicError is raised, with
    ``hint``. A local path is given as it is, to one process at a time. After an exception, also Ctrl-C, finished units
    are uploaded before it is raised.
    """
    place = folder(uri, config)
    if place.local is not None:
        with alone_in(place.local):
            yield place.local
        return
    with _work_folder(place) as work:
        if resume:
            _go_on(place, work, growing)
        else:
            _begin(place, work, growing, hint)
        sync = Sync(place, work, growing)
        try:
            with sync:
                yield work
        finally:
            if sync.is_complete:
                _end(place, work, sync)


class Sync:
    """Uploads what is finished in ``work`` every few seconds. Leaving the context uploads the rest."""

    def __init__(self, place: RemoteFolder, work: Path, growing: Growing) -> None:
        self.place, self.work, self.growing = place, work, growing
        self._done: set[Path] = set()
        self._sent: dict[Path, tuple[int, int]] = {}
        self.is_complete = False  # everything is uploaded, and nothing will be added
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, name=f"sync {place}", daemon=True)

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to upload."""
        return not self._done and not self._sent

    @property
    def _has_units(self) -> bool:
        return any(True for _ in self.growing.units(self.work))

    def __enter__(self) -> Sync:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        try:
            self._thread.join()
            if kind is None or self._has_units:  # files of a failed start would take the name of the next one
                self.upload(show=True)
            self.is_complete = True
        except PositronicError as error:
            problem = PositronicError(f"{error}\n{_kept(self.place, self.work)}")
            if kind is None:
                raise problem from error
            logger.error("%s", problem)
        except BaseException:
            logger.error("%s", _kept(self.place, self.work))
            raise

    def upload(self, show: bool = False) -> None:
        """Upload the finished units that are not there yet and, if there were some, the loose files."""
        new = [unit for unit in self.growing.units(self.work) if unit.folder not in self._done]
        for unit in new:
            self._publish(unit, show)
        if new or show:
            self._upload_loose(show)
        if new:
            for name, last in self.growing.superfluous(self.place):
                unpublish(self.place.uri / name, last, self.place.config)

    def _publish(self, unit: Unit, show: bool) -> None:
        """Unless it was removed before it was ever uploaded; while it is held it stays."""
        held = hold_folder(unit.folder)
        if held is None:
            return
        try:
            name = unit.folder.relative_to(self.work).as_posix()
            publish(unit, self.place.uri / name, self.place.config, show, exist_ok=True)
            self._done.add(unit.folder)
        finally:
            held.close()

    def _upload_loose(self, show: bool) -> None:
        stats = {path: path.stat() for path in _loose(self.work, self.growing)}
        changed = {path: (s.st_mtime_ns, s.st_size) for path, s in stats.items()}
        changed = {path: stamp for path, stamp in changed.items() if self._sent.get(path) != stamp}
        _put_all(self.place, self.work, list(changed), show)
        self._sent |= changed

    def _go(self) -> None:
        failed = False
        while not self._stop.wait(INTERVAL_SEC):
            try:
                self.upload()
                failed = False
            except Exception as error:  # the work continues; the end tries again, and reports
                logger.log(logging.DEBUG if failed else logging.WARNING, "Not uploaded yet: %s", error)
                failed = True


def _put_all(place: RemoteFolder, work: Path, files: Sequence[Path], show: bool = False) -> None:
    """Upload loose files, in place of what has their names."""
    client = connect(place.config)

    async def send(path: Path) -> None:
        what, data = place.uri / path.relative_to(work).as_posix(), path.read_bytes()
        await client.put(what, data, {SHA256: hashlib.sha256(data).hexdigest()})
        advance(len(data))

    with byte_bar(f"Publishing {place}", sum(path.stat().st_size for path in files), show) as advance:
        client.run(each(files, send, place.config.max_concurrency))


def _begin(place: RemoteFolder, work: Path, growing: Growing, hint: str) -> None:
    """Claim the place by an object that only one writer can create. Raises PositronicError when it is taken."""
    if work.exists():  # of a run that was killed
        with Sync(place, work, growing):
            pass
        shutil.rmtree(work)
    client = connect(place.config)
    record = json.dumps({"host": platform.node(), "pid": os.getpid()}).encode()
    try:
        if place.exists():
            raise PreconditionError
        client.run(client.create(place.uri / STARTED_FILE, record, {}))
    except PreconditionError:
        raise PositronicError(f"{place} exists already. {hint or 'Write elsewhere with output_dir=...'}") from None
    work.mkdir(parents=True)


def _end(place: RemoteFolder, work: Path, sync: Sync) -> None:
    if sync.is_empty:
        client = connect(place.config)
        client.run(client.delete(place.uri / STARTED_FILE))
    shutil.rmtree(work.parent)


def _go_on(place: RemoteFolder, work: Path, growing: Growing) -> None:
    """Bring the work folder to the state of the remote one, or leave it where it is ahead.

    Raises PositronicError when each has something that the other lacks.
    """
    remote = {file.name: file for file in place.listing().files if file.name.rpartition("/")[2] not in CLAIMS}
    wanted = [remote[name] for name in growing.restore(list(remote)) if name != STARTED_FILE]
    inside = [file for file in wanted if growing.is_inside(file.name)]
    if work.exists() and all(_size(work / file.name) == file.size for file in inside):
        return
    if work.exists():
        only_here = [name for name in map(partial(_last_name, work), growing.units(work)) if name not in remote]
        if only_here:
            raise PositronicError(
                f"{place} was continued elsewhere after {Path(only_here[0]).parent} was written here and could not be "
                f"uploaded. To continue with what is there, remove what is here: rm -r {work.parent}"
            )
        shutil.rmtree(work)
    work.mkdir(parents=True)
    _download_into(work, place, wanted)


def _last_name(work: Path, unit: Unit) -> str:
    """The file that tells whether a unit is there, by its name within the folder."""
    last = unit.folder / unit.last if unit.last else next(path for path in unit.folder.iterdir() if path.is_file())
    return last.relative_to(work).as_posix()


def _download_into(work: Path, place: RemoteFolder, files: Sequence[RemoteFile]) -> None:
    client = connect(place.config)
    with byte_bar(f"Fetching {place}", sum(file.size for file in files)) as advance:
        client.run(
            each(
                files,
                lambda file: download(client, place.uri, file, work / file.name, advance),
                place.config.max_concurrency,
            )
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _loose(work: Path, growing: Growing) -> list[Path]:
    """Files outside of units, hidden ones left out."""
    names = {path: path.relative_to(work) for path in work.rglob("*") if path.is_file()}
    hidden = {path for path, name in names.items() if any(part.startswith(".") for part in name.parts)}
    return sorted(path for path in set(names) - hidden if not growing.is_inside(names[path].as_posix()))


@contextmanager
def _work_folder(place: RemoteFolder) -> Iterator[Path]:
    """Where ``place`` is made here, locked. Raises PositronicError when another process makes it."""
    digest = hashlib.sha256(f"{endpoint_of(place.config)}\0{place}".encode()).hexdigest()[:16]
    root = cache_root(place.config) / OUTGOING / digest
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not try_lock(descriptor):
            raise PositronicError(f"Another process is writing {place}. Wait for it, or write elsewhere.")
        root.mkdir(exist_ok=True)
        yield root / place.name
    finally:
        os.close(descriptor)


def _publish_or_keep(unit: Unit, place: RemoteFolder) -> None:
    try:
        publish(unit, place.uri, place.config)
    except PositronicError as error:
        raise PositronicError(f"{error}\n{_kept(place, unit.folder)}") from error
    except BaseException:
        logger.error("%s", _kept(place, unit.folder))
        raise


def _kept(place: RemoteFolder, work: Path) -> str:
    return (
        f"What was not uploaded to {place} is kept in {work}. The same command uploads it; to give it up: rm -r "
        f"{work.parent}"
    )
