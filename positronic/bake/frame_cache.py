"""Decoded frames on the disk: an entry of the cache that also keeps copies of remote folders, under the same limit.

An entry is keyed by what was decoded: the manifest, the checksums of the video files, and which frames of them stand in
which row. So runs of the same episodes share it, one after another and side by side, and a dataset that was baked again
gets another. Frames are written as they are, so that a row is found by its number:

    <cache_dir>/entries/frames-<hash>/{entry.json, frames/<number of the column>.rgb}
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
from positronic.storage.entries import GIGABYTE, CacheError, Entry
from positronic.utils.disk import FORBIDDEN

VERSION = 1  # of how frames are decoded and laid out
DISK_SHARE = 0.8  # of what is free; checkpoints need the rest
FRAMES, SUFFIX = "frames", ".rgb"


def on_disk(dataset: BakedDataset, config: StorageConfig, progress: Progress | None = None) -> MappedFrames:
    """All frames in the cache of ``config``, decoded there unless they are there already.

    Raises CacheError when they do not fit or the cache cannot be used, PositronicError when a video cannot be decoded.
    """
    require_under_limit(dataset.decoded_bytes, config)
    root = entries.entries_root(config) / f"{FRAMES}-{_fingerprint(dataset)}"
    entry = Entry(root, root / FRAMES)
    try:
        held = entries.hold(entry, _Decoded(dataset, config, progress))
    except OSError as error:
        if error.errno not in FORBIDDEN:
            raise
        raise CacheError(f"{root} cannot be written ({error.strerror}). {entries.ELSEWHERE}") from error
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
            with ExitStack() as stack:
                files, sizes = _files(entry.files, self.dataset), _frame_sizes(self.dataset)
                writers = {name: stack.enter_context(_Writer(path, sizes[name])) for name, path in files.items()}
                decode_into(writers, self.dataset, self.progress)
                for writer in writers.values():
                    writer.sync()
        except BaseException:
            shutil.rmtree(entry.files, ignore_errors=True)
            raise
        return {"dataset": str(self.dataset.root), "frames": len(self.dataset), "columns": list(files)}


class _Writer:
    """Writes each frame at its place in a file. Context manager.

    Not into a mapped file: there a full disk ends the process, here it is an error.
    """

    def __init__(self, path: Path, frame_size: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._frame_size = frame_size

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def __setitem__(self, row: int, frame: NDArray[np.uint8]) -> None:
        left, place = memoryview(np.ascontiguousarray(frame)).cast("B"), row * self._frame_size
        while left:
            written = os.pwrite(self._descriptor, left, place)
            left, place = left[written:], place + written

    def sync(self) -> None:
        """What was written is there even if the power fails now; the record that says so follows."""
        os.fsync(self._descriptor)


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
        stat = path.stat()
        yield listed.get(name) or (stat.st_size, stat.st_mtime_ns)
