"""Folders that are read: local ones directly, remote ones by way of the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from positronic.errors import PositronicError, did_you_mean
from positronic.storage.cache import hold
from positronic.storage.client import Listing, RemoteFile, connect
from positronic.storage.config import StorageConfig
from positronic.storage.entries import Held
from positronic.storage.faults import MissingError, PreconditionError
from positronic.storage.local import local_path
from positronic.storage.place import LocalFolder, Select
from positronic.storage.streaming import Arriving, stream
from positronic.storage.uri import S3Uri, is_remote, parse

FETCH_ATTEMPTS = 3  # of a folder that changes while it is fetched

_kept: list[Held] = []  # what is in use until the process ends


@dataclass(frozen=True)
class RemoteFolder:
    """A folder in an object store. Nothing is asked of the store before a method is called. It can be sent to other
    processes."""

    uri: S3Uri
    config: StorageConfig = field(default_factory=StorageConfig)

    def __str__(self) -> str:
        return str(self.uri)

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.uri / name, self.config)

    @property
    def name(self) -> str:
        """The last part of its URI."""
        return self.uri.name

    @property
    def parent(self) -> RemoteFolder:
        """The folder above; of a bucket, itself."""
        return RemoteFolder(S3Uri(self.uri.bucket, self.uri.key.rpartition("/")[0]), self.config)

    @property
    def local(self) -> None:
        """It is not on this machine."""

    def listing(self, nested: bool = True) -> Listing:
        """Its files with sizes and etags; with ``nested`` False one level and the names of folders."""
        client = connect(self.config)
        return client.run(client.listing(self.uri, nested))

    def exists(self) -> bool:
        """Whether there is anything in it."""
        client = connect(self.config)
        return any(client.run(client.listing(self.uri, limit=1)))

    def read_bytes(self, name: str) -> bytes | None:
        """A small file, not by way of the cache; None when there is none."""
        client = connect(self.config)
        try:
            return client.run(client.get(self.uri / name))
        except MissingError:
            return None

    def folders_with(self, name: str) -> list[str]:
        """Names of the folders directly in it that hold a file called ``name``."""
        parts = [file.name.split("/") for file in self.listing().files]
        return [folder for folder, *rest in parts if rest == [name]]

    def entries(self) -> list[str]:
        """Names of the files and folders directly in it."""
        there = self.listing(nested=False)
        return [*there.folders, *(file.name for file in there.files)]

    def fetch(self, select: Select | None = None) -> Path:
        """A local folder with the files that ``select`` takes; it stays until this process ends.

        Raises PositronicError as ``hold`` does.
        """
        held = self.hold(select, show=True)
        _kept.append(held)
        return held.path

    def hold(self, select: Select | None = None, show: bool = False) -> Held:
        """Its files in the cache, until the result is closed. ``show``: a progress bar.

        Raises PositronicError when there are no files, when they keep changing, or when they cannot be fetched.
        """
        return self._listed_again(select, lambda files: hold(self.uri, files, self.config, show))

    def stream(self, large: Select) -> Held | Arriving:
        """Like ``hold``, but files that ``large`` takes are read while they arrive, unless all are there already."""
        return self._listed_again(None, lambda files: stream(self.uri, files, self.config, large, show=True))

    def _listed_again[T](self, select: Select | None, take: Callable[[list[RemoteFile]], T]) -> T:
        """What ``take`` makes of the files, which may change while it does."""
        for _ in range(FETCH_ATTEMPTS):
            files = [file for file in self.listing().files if select is None or select(file.name)]
            if not files:
                raise PositronicError(_nothing_there(self))
            try:
                return take(files)
            except (PreconditionError, MissingError):
                continue
        raise PositronicError(f"{self} changes while it is read: somebody writes it. Try again when that is done.")

    def hold_listed(self, files: list[RemoteFile] | tuple[RemoteFile, ...]) -> Held:
        """Like ``hold``, for files that were listed before. Raises PositronicError when they have changed since."""
        try:
            return hold(self.uri, files, self.config)
        except (PreconditionError, MissingError) as error:
            raise PositronicError(f"{self} has changed since it was listed. Run this again.") from error


def folder(uri: str | Path, config: StorageConfig | None = None) -> LocalFolder | RemoteFolder:
    """The local folder (``~`` expanded) or the remote one at ``uri``. Raises PositronicError for other schemes."""
    return RemoteFolder(parse(uri), config or StorageConfig()) if is_remote(uri) else LocalFolder(local_path(uri))


def fetch(uri: str | Path, config: StorageConfig | None = None, select: Select | None = None) -> Path:
    """A local folder with the files of ``uri`` that ``select`` takes; it stays until this process ends.

    A local path is given back as it is. Raises PositronicError as ``RemoteFolder.hold`` does.
    """
    return folder(uri, config).fetch(select)


@contextmanager
def local_input(
    uri: str | Path,
    config: StorageConfig | None = None,
    needs: str | None = None,
    select: Select | None = None,
    hint: str = "",
) -> Iterator[Path]:
    """``uri`` as a local folder inside the context. ``needs``: the file without which a remote folder is not complete.

    A local path is given as it is, whatever is there. Raises PositronicError, with ``hint``, when there is nothing.
    """
    place = folder(uri, config)
    if place.local is not None:
        yield place.local
        return
    if needs and place.read_bytes(needs) is None:
        raise PositronicError(" ".join([_without(place, needs), hint]).strip())
    held = place.hold(select, show=True)
    try:
        yield held.path
    finally:
        held.close()


@contextmanager
def streamed_input(uri: str | Path, config: StorageConfig | None, large: Select) -> Iterator[Path | Arriving]:
    """Like ``local_input``, but what ``large`` takes of a remote folder may still be on its way."""
    place = folder(uri, config)
    if place.local is not None:
        yield place.local
        return
    held = place.stream(large)
    try:
        yield held if isinstance(held, Arriving) else held.path
    finally:
        held.close()


def _without(place: RemoteFolder, needs: str) -> str:
    if place.exists():
        return f"{place} has no {needs}: it is something else, or its upload was not finished."
    return _nothing_there(place)


def _nothing_there(place: RemoteFolder) -> str:
    beside = place.parent.listing(nested=False).folders if place.uri.key else []
    return f"There is nothing at {place}.{did_you_mean(place.name, beside)}"
