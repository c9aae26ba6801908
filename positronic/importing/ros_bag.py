"""ROS 2 bags: a folder with metadata.yaml, a single .mcap or .db3.

Read by ``rosbags`` (Apache-2.0, pure Python, released monthly): ``mcap-ros2-support`` reads no .db3, which most bags up
to ROS 2 Humble are, and none of a folder's metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from positronic.errors import PositronicError, did_you_mean, listing

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader

METADATA = "metadata.yaml"
SUFFIXES = (".mcap", ".db3")


class Message(NamedTuple):
    """``log_ns``: when it was recorded."""

    topic: str
    log_ns: int
    type: str
    content: Any


class Bag:
    """An open bag."""

    def __init__(self, path: Path, reader: Reader) -> None:
        self._path = path
        self._reader = reader
        self.types = {connection.topic: connection.msgtype for connection in reader.connections}
        self.counts = dict.fromkeys(self.types, 0)
        for connection in reader.connections:
            self.counts[connection.topic] += connection.msgcount

    @property
    def span_ns(self) -> tuple[int, int]:
        """When its first and its last message were recorded."""
        return self._reader.start_time, self._reader.end_time - 1

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """The topics' messages, in the order of recording. Raises PositronicError for a topic that is not there, and
        for a message that cannot be read."""
        for topic in topics:
            if topic not in self.types:
                hint = did_you_mean(topic, self.types)
                raise PositronicError(f"{self._path} has no topic '{topic}'.{hint} Present: {listing(self.types)}.")
        chosen = [connection for connection in self._reader.connections if connection.topic in topics]
        for connection in chosen:
            _require_known(connection, self._path)
        if chosen:
            yield from self._decoded(chosen)

    def _decoded(self, chosen: list[Connection]) -> Iterator[Message]:
        types = _types()
        try:
            for connection, log_ns, data in self._reader.messages(connections=chosen):
                content = types.deserialize_cdr(data, connection.msgtype)
                yield Message(connection.topic, log_ns, connection.msgtype, content)
        except Exception as error:  # the reader says a dozen different things of damaged bytes
            raise PositronicError(f"{self._path}: damaged ({error}). Copy it again, or leave it out.") from None


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """The bag, to be read. Raises PositronicError for one that is still recorded, is cut off, or is no bag."""
    reader = _open(path)
    try:
        yield Bag(path, reader)
    finally:
        reader.close()


def is_bag(path: Path) -> bool:
    """Whether a bag could be there, by the names of files."""
    return path.suffix in SUFFIXES if path.is_file() else (path / METADATA).is_file() or bool(_stray(path))


def storage_of(path: Path) -> Path:
    """What to open: the folder with its metadata, or the only file of one whose recorder was ended too early."""
    if path.is_file() or (path / METADATA).is_file():
        return path
    files = _stray(path)
    if len(files) == 1:
        return files[0]
    raise PositronicError(
        f"{path}: {len(files)} files of a bag and no {METADATA}, which says how they belong together. "
        f"`ros2 bag reindex {path}` writes it."
    )


def _stray(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []


def _open(path: Path) -> Reader:
    try:
        from rosbags.rosbag2 import Reader
    except ModuleNotFoundError:
        raise PositronicError("source=mcap needs the package rosbags: pip install -e '.[import]'") from None
    storage = storage_of(path)
    try:
        reader = Reader(storage)
        reader.open()
    except Exception as error:  # see above
        raise PositronicError(
            f"{path}: cannot be read ({error}). A bag that is still recorded, or whose recorder was ended, lacks its "
            "end: wait for it, or mend it with `mcap recover` or `ros2 bag reindex`. Else copy it again."
        ) from None
    return reader


def _require_known(connection: Connection, path: Path) -> None:
    """Types go by name; one that another definition goes by would be read as other numbers."""
    digest = connection.digest
    if digest and digest.startswith("RIHS01_") and digest != _types().hash_rihs01(connection.msgtype):
        raise PositronicError(
            f"{path}: topic '{connection.topic}' has its own definition of {connection.msgtype}, which is not ROS 2's."
        )


@lru_cache(maxsize=1)
def _types() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.LATEST)
