"""Image signals: H.264 in mp4, and beside it a parquet index whose row i is the time of frame i.

The container's own timestamps only number the frames (nominal 100 fps); real time is in the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import numpy as np

from positronic.raw import columns
from positronic.raw.container import Shown, bad, missing_end, read_shown
from positronic.raw.decoder import Decoder
from positronic.raw.faults import BadEpisode
from positronic.raw.layout import INDEX_SUFFIX, VIDEO_SUFFIX
from positronic.raw.timeline import Times, index_at, window
from positronic.utils.colour import ToRgb

T = TypeVar("T")


class FrameSize(NamedTuple):
    """Pixels."""

    height: int
    width: int


class VideoSignal:
    """A camera, in the files named ``recorded``. They are opened when asked for, and none stays open between calls."""

    def __init__(self, name: str, folder: Path, recorded: str | None = None) -> None:
        self.name = name
        self.path = folder / f"{recorded or name}{VIDEO_SUFFIX}"
        self.index_path = folder / f"{recorded or name}{INDEX_SUFFIX}"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold this signal."""
        return (self.path, self.index_path)

    @cached_property
    def times_ns(self) -> Times:
        """int64 (N,), one per frame. Raises BadEpisode when the index is missing, unreadable or goes back."""
        if not self.index_path.exists():
            raise BadEpisode(self.path.parent, f"{self.path.name} has no index {self.index_path.name}.")
        return columns.read_times(columns.read_table(self.index_path), self.index_path, columns.INDEX_TIME_V1)

    @cached_property
    def size(self) -> FrameSize:
        """Height and width, from the file's header. Raises BadEpisode when there is no readable mp4."""
        with Decoder(self.path) as decoder:
            return FrameSize(decoder.height, decoder.width)

    @property
    def height(self) -> int:
        """Pixels."""
        return self.size.height

    @property
    def width(self) -> int:
        """Pixels."""
        return self.size.width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one frame: (H, W, 3)."""
        return (*self.size, 3)

    @cached_property
    def shown(self) -> Shown:
        """Which frames the file shows. Raises BadEpisode when there is no readable video."""
        return read_shown(self.path)

    def decoder(self) -> Decoder:
        """A decoder to hold open over many random reads; use it in a ``with``."""
        return Decoder(self.path, self.shown)

    def index_at(self, times_ns: Any) -> np.ndarray:
        """Frame shown at each time (T,): int64 (T,). Raises PositronicError before the first frame."""
        return index_at(self.times_ns, times_ns, self.name)

    def at(self, times_ns: Any) -> np.ndarray:
        """RGB frames shown at ``times_ns``, uint8: (H, W, 3) for one time, (T, H, W, 3) for T.

        Raises PositronicError before the first frame, and as ``av_frames`` does.
        """
        indices = self.index_at(times_ns)
        if not indices.ndim:
            return self.frame(int(indices))
        return np.stack(list(self.frames(indices))) if len(indices) else np.zeros((0, *self.shape), np.uint8)

    def window(self, start_ns: int, stop_ns: int) -> tuple[Times, np.ndarray]:
        """Stamps and frame indices in ``[start, stop)``, the frame that shows at ``start`` carried there."""
        return window(self.times_ns, start_ns, stop_ns)

    def av_frames(self, indices: Iterable[int]) -> Iterator[av.VideoFrame]:
        """The decoded frames, one per index, unconverted. A repeated index yields the same object.

        Ascending indices decode in one pass. Raises IndexError, and BadEpisode when the file ends early or is damaged.
        """
        count = len(self.times_ns)
        with self.decoder() as decoder:
            for index in indices:
                if not 0 <= index < count:
                    raise IndexError(f"{self.path.name} has frames 0 to {count - 1}, but frame {index} was asked for")
                yield decoder.frame(int(index))

    def frames_as(self, indices: Iterable[int], convert: Callable[[av.VideoFrame], T]) -> Iterator[T]:
        """``convert(frame)`` per index; once for a run of equal indices, which share the result."""
        last, result = None, None
        for frame in self.av_frames(indices):
            if frame is not last:
                last, result = frame, convert(frame)
            yield result

    def frames(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """RGB frames, uint8 (H, W, 3), one per index. Only these are converted; equal neighbours are one array."""
        return self.frames_as(indices, ToRgb().array)

    def frame(self, index: int) -> np.ndarray:
        """One RGB frame, uint8 (H, W, 3), reached from the keyframe before it. Raises IndexError out of range."""
        return next(self.frames([index]))

    def check(self) -> None:
        """Compare index and video without decoding. Raises BadEpisode when one is missing, cut, damaged or longer."""
        stamps = len(self.times_ns)
        if self.path.exists() and (fault := missing_end(self.path)):
            raise bad(self.path, f"is cut short or damaged: {fault}")
        found = len(self.shown.pts)
        if found != stamps:
            reason = f"{self.path.name} holds {found} frames, but its index {self.index_path.name} {stamps} times."
            raise BadEpisode(self.path.parent, reason)
