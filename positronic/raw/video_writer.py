"""Writes one camera as H.264 in mp4 with its index, version 1 of the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from positronic.errors import PositronicError
from positronic.raw.columns import INDEX_TIME_V1
from positronic.raw.layout import INDEX_SUFFIX, VIDEO_SUFFIX
from positronic.utils.colour import FromRgb

NOMINAL_FPS = 100  # of the container, by the published format; real times are in the index
GOP = 30


@dataclass(frozen=True)
class VideoOptions:
    """libx264's ``preset`` (``ultrafast`` halves the time and gives larger files) and ``crf`` (lower is finer).

    One thread by default, as episodes are recorded in parallel.
    """

    preset: str = "superfast"
    crf: int = 20
    threads: int = 1


class VideoWriter:
    """Appends RGB frames; each is encoded at once, so that memory stays small."""

    def __init__(self, name: str, folder: Path, options: VideoOptions) -> None:
        self.name = name
        self._index_path = folder / f"{name}{INDEX_SUFFIX}"
        self._path = folder / f"{name}{VIDEO_SUFFIX}"
        self._options = options
        self._from_rgb = FromRgb()
        self._times: list[int] = []
        self._shape: tuple[int, ...] | None = None

    def append(self, image_hwc: np.ndarray, time_ns: int) -> None:
        """Add a frame, uint8 (H, W, 3). Raises PositronicError when a side is odd or the size changes."""
        if self._shape is None:
            self._open(image_hwc.shape)
        if (image_hwc.dtype, image_hwc.shape) != (np.uint8, self._shape):
            raise PositronicError(
                f"Camera '{self.name}' records uint8 frames of shape {self._shape}; at {time_ns} ns came "
                f"{image_hwc.dtype} of shape {image_hwc.shape}."
            )
        frame = self._from_rgb.from_array(image_hwc)
        frame.pts = len(self._times)  # a number, not a time: see ``video``
        self._container.mux(self._stream.encode(frame))
        self._times.append(time_ns)

    def close(self) -> None:
        """Finish the mp4 and write the index."""
        if self._shape is None:
            return
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
        write_index(self._index_path, self._times)

    def _open(self, shape: tuple[int, ...]) -> None:
        height, width, _ = shape
        if height % 2 or width % 2 or not height or not width:
            raise PositronicError(
                f"Camera '{self.name}' sends frames of {height} x {width} (height x width); H.264 in yuv420p needs "
                "even sides. Crop or resize the camera's picture by a pixel."
            )
        self._container = av.open(str(self._path), "w")
        options = {"preset": self._options.preset, "crf": str(self._options.crf)}
        self._stream = self._container.add_stream("libx264", rate=NOMINAL_FPS, options=options)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        self._stream.codec_context.gop_size = GOP
        self._stream.codec_context.thread_count = self._options.threads
        self._shape = shape


class CopiedVideo:
    """A camera whose video is in its place already."""

    def __init__(self, name: str, folder: Path, times_ns: Sequence[int]) -> None:
        self._index_path = folder / f"{name}{INDEX_SUFFIX}"
        self._times = times_ns

    def append(self, image_hwc: np.ndarray, time_ns: int) -> None:
        """Raise PositronicError: nothing is added to it."""
        raise PositronicError(f"{self._index_path.parent}: a video that was copied takes no further frames.")

    def close(self) -> None:
        """Write the index."""
        write_index(self._index_path, self._times)


def write_index(path: Path, times_ns: Sequence[int]) -> None:
    """The time of each frame."""
    index = pa.table({INDEX_TIME_V1: pa.array(times_ns, pa.int64())})
    pq.write_table(index, path, write_page_checksum=True)
