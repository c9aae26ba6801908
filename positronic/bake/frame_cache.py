"""Decoded frames on the disk: an entry of the cache that also keeps copies of remote folders, under the same limit.

An entry is keyed by what was decoded: the manifest, the checksums of the video files, and which frames of them stand in
which row. So runs of the same episodes share it, one after another and side by side, and a dataset that was baked again
gets another. Frames are written as they are, so that a row is found by its number:

    <cache_dir>/entries/frames-<hash>/{entry.json, frames/<number of the column>.rgb}
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from positronic.bake.file_list import read_file_list
from positronic.bake.frame_source import MappedFrames, Progress, decode_into
from positronic.bake.reader import BakedDataset
from positronic.storage import entries
from positronic.storage.config import StorageConfig
from positronic.storage.entries import GIGABYTE, Begun, CacheError, Entry, Held
from positronic.utils.disk import FORBIDDEN

VERSION = 1  # of how frames are decoded and laid out
DISK_SHARE = 0.8  # of what is free; checkpoints need the rest
FRAMES, SUFFIX = "frames", ".rgb"


def on_disk(dataset: BakedDataset, config: StorageConfig, progress: Progress | None = None) -> MappedFrames:
    """All frames in the cache of ``config``, decoded there unless they are there already.

    Raises CacheError when they do not fit or the cache cannot be used, PositronicError when a video cannot be decoded.
    """
    entry = _entry(dataset, config)
    with _written(entry):
        held = entries.hold(entry, _Decoded(dataset, config, progress))
    return _mapped(held, dataset)


def begin_on_disk(dataset: BakedDataset, config: StorageConfig) -> MappedFrames | DiskTarget:
    """Like ``on_disk``, but what is not decoded there yet is for the caller to decode."""
    entry = _entry(dataset, config)
    with _written(entry):
        begun = entries.begin(entry, _Decoded(dataset, config, None))
        if isinstance(begun, Held):
            return _mapped(begun, dataset)
        try:
            with begun.room_required():
                return DiskTarget(begun, dataset)
        except BaseException:
            begun.close()
            raise


def _entry(dataset: BakedDataset, config: StorageConfig) -> Entry:
    require_under_limit(dataset.decoded_bytes, config)
    root = entries.entries_root(config) / f"{FRAMES}-{_fingerprint(dataset)}"
    return Entry(root, root / FRAMES)


@contextmanager
def _written(entry: Entry) -> Iterator[None]:
    """Raises CacheError where writing is forbidden."""
    try:
        yield
    except OSError as error:
        if error.errno not in FORBIDDEN:
            raise
        raise CacheError(f"{entry.root} cannot be written ({error.strerror}). {entries.ELSEWHERE}") from error


def _mapped(held: Held, dataset: BakedDataset) -> MappedFrames:
    return MappedFrames(_files(held.path, dataset), dataset.image_shapes, held)


def require_under_limit(size: int, config: StorageConfig) -> None:
    """Raise CacheError when the cache may not become so large."""
    if size > config.cache_gb * GIGABYTE:
        raise CacheError(
            f"The decoded frames take {size / GIGABYTE:.3g} GB on the disk, and storage.cache_gb={config.cache_gb:g} "
            "allows less. Type a larger storage.cache_gb."
        )


@dataclass(frozen=True)
class _Decoded:
    """All frames of ``dataset``."""

    dataset: BakedDataset
    config: StorageConfig
    progress: Progress | None
    made: str = "decoded there"

    @property
    def size(self) -> int:
        return self.dataset.decoded_bytes

    @property
    def waiting(self) -> str:
        return f"Another process decodes the frames of {self.dataset.root}; waiting for it."

    def is_whole(self, entry: Entry) -> bool:
        files, sizes = _files(entry.files, self.dataset), _frame_sizes(self.dataset)
        return all(files[name].stat().st_size == size * len(self.dataset) for name, size in sizes.items())

    def fill(self, entry: Entry) -> dict[str, Any]:
        """An interrupted one is removed: it is of no use to the next, and large."""
        try:
            entries.make_room(self.size, self, DISK_SHARE)
            with _Writers(entry, self.dataset) as writers:
                decode_into(writers.rows, self.dataset, self.progress)
        except BaseException:
            shutil.rmtree(entry.files, ignore_errors=True)
            raise
        return self.record

    @property
    def record(self) -> dict[str, Any]:
        """What it is."""
        columns = list(self.dataset.image_shapes)
        return {"dataset": str(self.dataset.root), "frames": len(self.dataset), "columns": columns}


class DiskTarget:
    """The cache, while frames are decoded there."""

    def __init__(self, begun: Begun, dataset: BakedDataset) -> None:
        """Raises CacheError when there is no room."""
        self._begun, self._content = begun, begun.content
        entries.make_room(self._content.size, self._content, DISK_SHARE)
        self._writers = _Writers(begun.entry, dataset)
        self.rows = self._writers.rows
        self.frames = MappedFrames(_files(begun.entry.files, dataset), dataset.image_shapes)
        self._held: Held | None = None

    def finish(self) -> None:
        """From now on it counts, for others too."""
        with self._begun.room_required():
            self._writers.close()
        self._held = self._begun.finish(self._content.record)

    def discard(self) -> None:
        """Leave nothing: it is of no use to the next, and large."""
        self._writers.close(sync=False)
        shutil.rmtree(self._begun.entry.files, ignore_errors=True)
        self._begun.close()


class _Writers:
    """The files of an entry. Context manager."""

    def __init__(self, entry: Entry, dataset: BakedDataset) -> None:
        with ExitStack() as stack:
            files, sizes = _files(entry.files, dataset), _frame_sizes(dataset)
            self.rows = {
                name: stack.enter_context(closing(_Writer(path, sizes[name], len(dataset))))
                for name, path in files.items()
            }
            self._stack = stack.pop_all()

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(sync=kind is None)

    def close(self, sync: bool = True) -> None:
        """``sync``: what was written is on the disk."""
        with self._stack:
            for writer in self.rows.values() if sync else ():
                writer.sync()


class _Writer:
    """Writes each frame at its place in a file, whose room on the disk is taken at once.

    Not into a mapped file: there a full disk ends the process, here it is an error.
    """

    def __init__(self, path: Path, frame_size: int, count: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._frame_size = frame_size
        try:
            _take_room(self._descriptor, frame_size * count)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __setitem__(self, row: int, frame: NDArray[np.uint8]) -> None:
        left, place = memoryview(np.ascontiguousarray(frame)).cast("B"), row * self._frame_size
        while left:
            written = os.pwrite(self._descriptor, left, place)
            left, place = left[written:], place + written

    def sync(self) -> None:
        """What was written is there even if the power fails now; the record that says so follows."""
        os.fsync(self._descriptor)


def _take_room(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(descriptor, size)  # a file system that takes no room before it is written


def _files(folder: Path, dataset: BakedDataset) -> dict[str, Path]:
    return {name: folder / f"{number}{SUFFIX}" for number, name in enumerate(dataset.image_shapes)}


def _frame_sizes(dataset: BakedDataset) -> dict[str, int]:
    return {name: int(np.prod(shape)) for name, shape in dataset.image_shapes.items()}


def _fingerprint(dataset: BakedDataset) -> str:
    """sha256, shortened, over all that the frames and their order depend on."""
    digest = hashlib.sha256()
    for said in ([VERSION, av.__version__], dataset.manifest.to_dict(), *_places(dataset), *_contents(dataset)):
        digest.update(json.dumps(said, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()[:32]


def _places(dataset: BakedDataset) -> Iterator[Sequence[Any]]:
    """Which frames of which file stand in which rows."""
    for name, shape in dataset.image_shapes.items():
        yield name, shape
        for start, span in zip(dataset.starts.tolist(), dataset.videos[name], strict=True):
            yield start, span.path.relative_to(dataset.root).as_posix(), span.first, span.count


def _contents(dataset: BakedDataset) -> Iterator[Sequence[Any]]:
    """Checksums that the bake wrote; sizes and times of files that have none."""
    listed = read_file_list(dataset.root) if dataset.files is None and dataset.manifest.file_list else {}
    for path in sorted({span.path for spans in dataset.videos.values() for span in spans}):
        name = path.relative_to(dataset.root).as_posix()
        yield listed.get(name) or _stamp(path)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
