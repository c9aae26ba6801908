"""Frames of a baked dataset, from memory, mapped from files on the disk, or decoded on demand."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from positronic.bake.places import VideoSpan
from positronic.bake.reader import BakedDataset
from positronic.errors import PositronicError
from positronic.utils.colour import ToRgb
from positronic.utils.memory import available_bytes
from positronic.utils.threads import available_cores

TASK_FRAMES = 512  # frames that one decoding task takes, so that threads share long files
GIGABYTE = 1e9
MEMORY_SHARE = 0.8  # of what is free; the network needs the rest
MAX_OPEN_FILES = 32

Progress = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""
Shape = tuple[int, int, int]


class Frames(Protocol):
    """Pictures of a dataset by row. Whatever they come from, they are the same."""

    def get(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows (B,) of an image column -> uint8 (B, H, W, 3)."""
        ...


class CachedFrames:
    """All frames in memory."""

    def __init__(self, frames: dict[str, NDArray[np.uint8]]) -> None:
        self._frames = frames

    def get(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows (B,) of an image column -> uint8 (B, H, W, 3)."""
        return self._frames[column][rows]


class MappedFrames:
    """All frames in files, one after another: the system keeps in memory what is used and there is room for, once for
    all processes. It can be sent to another process. ``held`` keeps the files where they are."""

    def __init__(self, files: Mapping[str, Path], shapes: Mapping[str, Shape], held: object = None) -> None:
        self._files, self._shapes, self._held = files, shapes, held
        self._maps: dict[str, tuple[mmap.mmap, NDArray[np.uint8]]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"_files": self._files, "_shapes": self._shapes, "_held": None, "_maps": {}}

    def get(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows (B,) of an image column -> uint8 (B, H, W, 3)."""
        mapped, frames = self._open(column)
        for row in rows.tolist():  # read from the disk side by side, and not a page at a time
            start = row * frames[0].nbytes // mmap.PAGESIZE * mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, start, min(frames[0].nbytes + mmap.PAGESIZE, len(mapped) - start))
        return frames[rows]

    def _open(self, column: str) -> tuple[mmap.mmap, NDArray[np.uint8]]:
        if column not in self._maps:
            with self._files[column].open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[column] = mapped, np.frombuffer(mapped, np.uint8).reshape(-1, *self._shapes[column])
        return self._maps[column]


class DecodedFrames:
    """Frames decoded when asked for: a seek to the keyframe before, then forwards. It can be sent to another process,
    which opens the files for itself."""

    def __init__(self, dataset: BakedDataset) -> None:
        self._dataset = dataset
        self._files: dict[tuple[str, Path], FrameFile] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"_dataset": self._dataset, "_files": {}}

    def get(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Rows (B,) of an image column -> uint8 (B, H, W, 3)."""
        out = np.empty((len(rows), *self._dataset.image_shapes[column]), np.uint8)
        for i, row in enumerate(rows):
            episode = self._dataset.episode_of[row]
            span = self._dataset.videos[column][episode]
            out[i] = self._open(column, span.path).frame(span.first + int(row - self._dataset.starts[episode]))
        return out

    def _open(self, column: str, path: Path) -> FrameFile:
        if (column, path) not in self._files:
            if len(self._files) >= MAX_OPEN_FILES:  # the one that was opened first; any would do, rows are shuffled
                self._files.pop(next(iter(self._files))).close()
            self._files[column, path] = _open_file(self._dataset, column, path)
        return self._files[column, path]


class Rows(Protocol):
    """Where frames are decoded into: an array (N, H, W, 3), or what writes them to a file."""

    def __setitem__(self, row: int, frame: NDArray[np.uint8]) -> None: ...


class FrameFile(Protocol):
    """Pictures of one camera in one file, by number."""

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Picture ``index``, uint8 (H, W, 3)."""

    def frames(self, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        """``count`` pictures from ``first`` on."""

    def close(self) -> None:
        """Close the file."""


class VideoFile:
    """One mp4, frame k at k / fps s. Context manager."""

    def __init__(self, path: Path, fps: int, content: IO[bytes] | None = None) -> None:
        """``content``: what gives the bytes of a file that is not there yet."""
        self._path = path
        self._fps = fps
        self._to_rgb = ToRgb()
        try:
            self._container = av.open(content or str(path), metadata_errors="replace")
            self._stream = self._container.streams.video[0]
        except (av.FFmpegError, OSError, IndexError) as error:
            raise PositronicError(f"{path} cannot be read as a video ({error}). Convert the dataset again.") from None
        if self._stream.codec_context is None:  # to decode it ends the process
            raise PositronicError(f"{path} is in a codec that cannot be decoded here. Convert the dataset again.")
        self._stream.thread_type = "NONE"  # many files are decoded side by side

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame ``index`` of the file, uint8 (H, W, 3)."""
        return next(self.frames(index, 1))

    def frames(self, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        """``count`` frames from ``first`` on, each uint8 (H, W, 3). Raises PositronicError when the file ends early."""
        given = 0
        try:
            for frame in self._from_keyframe_before(first):
                number = self._number(frame)
                if number > first + given or (number == first + given and frame.is_corrupt):
                    raise PositronicError(f"{self._path}: frame {first + given} is missing or damaged. Convert again.")
                if number == first + given:
                    yield self._to_rgb.array(frame)
                    given += 1
                if given == count:
                    return
        except av.FFmpegError as error:
            raise PositronicError(
                f"{self._path}: damaged after frame {first + given} ({error}). Convert again."
            ) from None
        raise PositronicError(f"{self._path}: expected frame {first + given}, but the file ends. Convert again.")

    def _number(self, frame: av.VideoFrame) -> int:
        if frame.pts is None:
            raise PositronicError(f"{self._path} has a frame without a presentation time. Convert again.")
        return round(float(frame.pts * self._stream.time_base) * self._fps)

    def _from_keyframe_before(self, index: int) -> Iterator[av.VideoFrame]:
        self._container.seek(int(index / self._fps / self._stream.time_base), stream=self._stream, backward=True)
        return self._container.decode(self._stream)


def fits_in_memory(dataset: BakedDataset, cache_gb: float, taken: int = 0) -> bool:
    """Whether all frames fit in ``cache_gb`` and in free memory, of which ``taken`` bytes are promised."""
    return dataset.decoded_bytes + taken <= min(cache_gb * GIGABYTE, MEMORY_SHARE * available_bytes())


def in_memory(dataset: BakedDataset, progress: Progress | None = None) -> CachedFrames:
    """All frames, decoded into memory."""
    return CachedFrames(decode_all(dataset, progress))


def decode_all(dataset: BakedDataset, progress: Progress | None = None) -> dict[str, NDArray[np.uint8]]:
    """Every image column as uint8 (N, H, W, 3)."""
    frames = empty_frames(dataset)
    decode_into(frames, dataset, progress)
    return frames


def empty_frames(dataset: BakedDataset) -> dict[str, NDArray[np.uint8]]:
    """Room in memory for every image column, uint8 (N, H, W, 3)."""
    return {name: np.empty((len(dataset), *shape), np.uint8) for name, shape in dataset.image_shapes.items()}


def decode_into(
    targets: Mapping[str, Rows],
    dataset: BakedDataset,
    progress: Progress | None = None,
    due: NDArray[np.int64] | None = None,
) -> None:
    """Every image column into its target, by one thread per core. ``due`` (N,): rows with the lowest come first."""
    done, total = 0, len(dataset) * len(targets)
    with ThreadPoolExecutor(available_cores()) as pool:
        tasks = [
            pool.submit(_decode_span, targets[name], start, span, partial(_open_file, dataset, name))
            for name, start, span in tasks_of(dataset, due)
        ]
        try:
            for task in as_completed(tasks):
                done += task.result()
                if progress:
                    progress(done, total)
        finally:
            for task in tasks:
                task.cancel()


def tasks_of(dataset: BakedDataset, due: NDArray[np.int64] | None = None) -> list[tuple[str, int, VideoSpan]]:
    """What is decoded at once: image column, first row, its frames. The soonest ``due`` (N,) come first."""
    tasks = [
        (name, start, span) for name in dataset.image_shapes for start, span in _pieces(_long_spans(dataset, name))
    ]
    if due is not None:
        tasks.sort(key=lambda task: due[task[1] : task[1] + task[2].count].min())
    return tasks


def _open_file(dataset: BakedDataset, column: str, path: Path) -> FrameFile:
    if dataset.files is not None:
        return dataset.files(column, path)
    return VideoFile(path, dataset.fps, dataset.arriving and dataset.arriving.open(path))


def _decode_span(out: Rows, start: int, span: VideoSpan, open_file: Callable[[Path], FrameFile]) -> int:
    with closing(open_file(span.path)) as video:
        for i, frame in enumerate(video.frames(span.first, span.count)):
            out[start + i] = frame
    return span.count


def _long_spans(dataset: BakedDataset, column: str) -> Iterator[tuple[int, VideoSpan]]:
    """``(first row, span)``. Neighbouring episodes of a file are joined, so that each file is opened only a
    few times."""
    rows = zip(dataset.starts.tolist(), dataset.videos[column], strict=True)
    for path, group in groupby(rows, key=lambda row: row[1].path):
        start, first, count = -1, 0, 0
        for row, span in group:
            if count and (first + count != span.first or count >= TASK_FRAMES):
                yield start, VideoSpan(path, first, count)
                count = 0
            if not count:
                start, first = row, span.first
            count += span.count
        yield start, VideoSpan(path, first, count)


def _pieces(spans: Iterable[tuple[int, VideoSpan]]) -> Iterator[tuple[int, VideoSpan]]:
    """Spans of long episodes in pieces: threads share them, and after Ctrl-C nobody waits for a whole one."""
    for start, span in spans:
        for done in range(0, span.count, 2 * TASK_FRAMES):
            count = min(2 * TASK_FRAMES, span.count - done)
            yield start + done, VideoSpan(span.path, span.first + done, count)
