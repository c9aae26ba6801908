"""Frames that can be had while they are still being decoded.

All are decoded in the background, those first that are needed first. A frame that is asked for before its turn is
decoded by itself: nobody waits for another frame than those that he asks for, and every frame is the same either way.
"""

from __future__ import annotations

import math
import mmap
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from positronic.bake.file_list import FileList
from positronic.bake.frame_source import (
    CachedFrames,
    DecodedFrames,
    Frames,
    MappedFrames,
    Rows,
    decode_into,
    empty_frames,
    tasks_of,
)
from positronic.bake.reader import BakedDataset
from positronic.bake.whole import listed_files, require_recorded
from positronic.utils.shared import SharedBytes
from positronic.utils.threads import available_cores

AT_ONCE = 8  # frames that are asked for are decoded by so many threads at least: they may wait for a network


class Target(Protocol):
    """Where frames are decoded into. ``rows``: by image column. ``frames``: those that are there."""

    rows: Mapping[str, Rows]
    frames: Frames

    def finish(self) -> None:
        """All frames are there."""
        ...

    def discard(self) -> None:
        """No more frames come."""
        ...


class MemoryTarget:
    """Memory."""

    def __init__(self, dataset: BakedDataset) -> None:
        self.rows = empty_frames(dataset)
        self.frames = CachedFrames(self.rows)

    def finish(self) -> None:
        """Nothing."""

    def discard(self) -> None:
        """Nothing."""


class SharedMemoryTarget:
    """Memory that other processes can look into."""

    def __init__(self, dataset: BakedDataset) -> None:
        shapes = {name: (len(dataset), *shape) for name, shape in dataset.image_shapes.items()}
        self._memory = {name: SharedBytes(math.prod(shape)) for name, shape in shapes.items()}
        self.rows = {
            name: np.frombuffer(memory.bytes, np.uint8).reshape(shapes[name]) for name, memory in self._memory.items()
        }
        self.frames = MappedFrames({name: each.path for name, each in self._memory.items()}, dataset.image_shapes)

    def finish(self) -> None:
        """Nothing."""

    def discard(self) -> None:
        """Nothing."""


class Filled(NamedTuple):
    """How far it is: frames of all cameras, and bytes of videos that are fetched (0 of 0 when they were here)."""

    frames: int
    of_frames: int
    fetched: int
    to_fetch: int

    def __str__(self) -> str:
        """For people."""
        decoded = f"{self.frames} of {self.of_frames} pictures decoded"
        return decoded + (
            f", {self.fetched / 1e6:.1f} of {self.to_fetch / 1e6:.1f} MB fetched" if self.to_fetch else ""
        )


class FillingFrames:
    """Frames of ``dataset``, which are decoded into ``target`` meanwhile. ``due`` (N,): rows with the lowest first.

    To be closed. ``done``: called in another thread, with seconds, when all are there. ``shared``: other processes
    want to know which ones are.
    """

    def __init__(
        self,
        dataset: BakedDataset,
        target: Target,
        due: NDArray[np.int64],
        done: Callable[[float], None],
        shared: bool = False,
    ) -> None:
        self._dataset, self._target, self._due, self._done = dataset, target, due, done
        self._flags = {name: SharedBytes(len(dataset)) for name in dataset.image_shapes if shared}
        self._there = {
            name: np.frombuffer(self._flags[name].bytes, bool) if shared else np.zeros(len(dataset), bool)
            for name in dataset.image_shapes
        }
        self._single = _Single(dataset)
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._whole = False
        self._thread = threading.Thread(target=self._fill, name="frames", daemon=True)
        self._thread.start()

    def get(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows (B,) of an image column -> uint8 (B, H, W, 3). Raises what went wrong in the background."""
        if self._error is not None:
            raise self._error
        return _get(self._there[column], self._target.frames, self._single, column, rows)

    def reader(self) -> ArrivingFrames:
        """The same frames for another process, if they are ``shared`` and in a target that others can look into."""
        return ArrivingFrames(
            self._dataset, self._target.frames, {name: flags.path for name, flags in self._flags.items()}
        )

    @property
    def filled(self) -> Filled | None:
        """How far it is; None when all are there."""
        if self._whole:
            return None
        arriving, of_frames = self._dataset.arriving, len(self._dataset) * len(self._there)
        frames = sum(int(np.count_nonzero(there)) for there in self._there.values())
        return Filled(frames, of_frames, *((arriving.arrived_bytes, arriving.total_bytes) if arriving else (0, 0)))

    def close(self) -> None:
        """Decode no more, and fetch no more."""
        self._closed.set()
        if self._dataset.arriving is not None:
            self._dataset.arriving.close()
        self._single.close()
        self._thread.join()
        if not self._whole:
            self._target.discard()

    def _fill(self) -> None:
        began = time.perf_counter()
        rows = {name: _Marking(target, self._there[name], self._closed) for name, target in self._target.rows.items()}
        try:
            decode_into(rows, self._dataset, due=self._due)
            if self._dataset.arriving is not None:
                self._dataset.arriving.wait()
            self._target.finish()
        except BaseException as error:  # raised where frames are asked for
            self._error = error
        else:
            self._whole = True
            self._done(time.perf_counter() - began)


class ArrivingFrames:
    """Frames that another process decodes. It can be sent to a process of this machine, while that one lives."""

    def __init__(self, dataset: BakedDataset, frames: Frames, flags: Mapping[str, Path]) -> None:
        """``flags``: image column -> a file with a byte for each row, which is 1 when ``frames`` has it."""
        self._dataset, self._frames, self._flags = dataset, frames, flags
        self._there: dict[str, NDArray[np.bool_]] = {}
        self._single: _Single | None = None

    def get(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows (B,) of an image column -> uint8 (B, H, W, 3)."""
        if column not in self._there:
            with self._flags[column].open("rb") as file:
                self._there[column] = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), bool)
        self._single = self._single or _Single(self._dataset)
        return _get(self._there[column], self._frames, self._single, column, rows)


def start_arriving(dataset: BakedDataset, due: NDArray[np.int64]) -> None:
    """Fetch the videos that are on their way, those first that are needed first."""
    if dataset.arriving is not None:
        files: FileList = listed_files(dataset.root, dataset.manifest)
        soonest = [span.path for _, _, span in tasks_of(dataset, due)]
        dataset.arriving.start(soonest, lambda path: require_recorded(dataset.root, files, path))


def _get(
    flags: NDArray[np.bool_], frames: Frames, single: _Single, column: str, rows: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Rows (B,), those that ``flags`` (N,) says are in ``frames`` from there."""
    there = flags[rows]
    if there.all():
        return frames.get(column, rows)
    fetched = single.get(column, rows[~there])
    out = np.empty((len(rows), *fetched.shape[1:]), np.uint8)
    if there.any():
        out[there] = frames.get(column, rows[there])
    out[~there] = fetched
    return out


class _StoppedError(Exception):
    """Nobody wants the frames any more."""


class _Marking:
    """Notes which rows are there, and ends when nobody wants them any more."""

    def __init__(self, rows: Rows, there: NDArray[np.bool_], closed: threading.Event) -> None:
        self._rows, self._there, self._closed = rows, there, closed

    def __setitem__(self, row: int, frame: NDArray[np.uint8]) -> None:
        if self._closed.is_set():
            raise _StoppedError
        self._rows[row] = frame
        self._there[row] = True  # after the frame, because another thread may be looking


class _Single:
    """Frames one by one, by several threads, each with open files of its own."""

    def __init__(self, dataset: BakedDataset) -> None:
        self._dataset = dataset
        self._threads = max(AT_ONCE, available_cores())
        self._pool = ThreadPoolExecutor(self._threads, "frame")
        self._own = threading.local()

    def get(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows (B,) of an image column -> uint8 (B, H, W, 3)."""
        order = np.argsort(rows, kind="stable")  # neighbours are of one file
        parts = [part for part in np.array_split(order, self._threads) if len(part)]
        out = np.empty((len(rows), *self._dataset.image_shapes[column]), np.uint8)
        for part, frames in zip(parts, self._pool.map(lambda part: self._of(column, rows[part]), parts), strict=True):
            out[part] = frames
        return out

    def close(self) -> None:
        """Decode no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _of(self, column: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        if not hasattr(self._own, "frames"):
            self._own.frames = DecodedFrames(self._dataset)
        return self._own.frames.get(column, rows)
