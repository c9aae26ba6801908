"""One open mp4: frames by number, decoded in order, by keyframe seek where that is shorter."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import av
import numpy as np

from positronic.raw.faults import BadEpisode

SEEK_GAP = 30  # frames; a nearer target is decoded to, as published files have a keyframe every 30 frames


class Packets(NamedTuple):
    """Presentation stamps of all packets, sorted, and of the keyframes among them; in the stream's time base."""

    pts: np.ndarray
    keyframes: np.ndarray


class Decoder:
    """Context manager around an open video. Raises BadEpisode when the file is missing, truncated or damaged."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        try:
            self._container = av.open(str(path))
        except FileNotFoundError as error:
            raise self._bad("is missing") from error
        except (av.FFmpegError, OSError) as error:
            raise self._bad(f"cannot be opened ({_brief(error)}); the recording may have been cut off") from error
        if not self._container.streams.video:
            self.close()
            raise self._bad("has no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = threads
        self._stream.thread_type = "SLICE" if threads == 1 else "AUTO"
        self._frames: Iterator[av.VideoFrame] = self._container.decode(self._stream)
        self._position = -1  # of the frame decoded last
        self._frame: av.VideoFrame | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def height(self) -> int:
        """Pixels."""
        return self._stream.codec_context.height

    @property
    def width(self) -> int:
        """Pixels."""
        return self._stream.codec_context.width

    def frame(self, index: int) -> av.VideoFrame:
        """Frame ``index`` >= 0 in display order. Asking for the same again decodes nothing."""
        if index < self._position or index > self._position + SEEK_GAP:
            self._seek(index)
        while self._position < index:
            self._step(index)
        return self._whole(index)

    def count_frames(self) -> int:
        """Number of whole frames in the file, by walking its packets. Raises BadEpisode when one is damaged."""
        return len(self._packets.pts)

    def _step(self, target: int) -> None:
        try:
            self._frame = next(self._frames)
        except StopIteration:
            raise self._bad(f"ends after {self._position + 1} frames, frame {target} was asked for") from None
        except av.FFmpegError as error:
            raise self._bad(f"cannot be decoded after frame {self._position} ({_brief(error)})") from error
        self._position += 1

    def _whole(self, index: int) -> av.VideoFrame:
        if self._frame.is_corrupt:
            raise self._bad(f"is damaged at frame {index}")
        return self._frame

    def _seek(self, index: int) -> None:
        """Go to the keyframe at or before ``index``, unless decoding on from here is as short."""
        pts, keyframes = self._packets
        if index >= len(pts):
            raise self._bad(f"holds {len(pts)} frames, frame {index} was asked for")
        key_pts = keyframes[np.searchsorted(keyframes, pts[index], side="right") - 1]
        key_index = int(np.searchsorted(pts, key_pts))
        if self._position < index and key_index <= self._position + 1:
            return
        self._container.seek(int(key_pts), stream=self._stream)
        self._frames = self._container.decode(self._stream)
        self._step(index)
        self._position = int(np.searchsorted(pts, self._frame.pts))  # a demuxer may land on an earlier keyframe

    @cached_property
    def _packets(self) -> Packets:
        """From a pass of its own, so that the decoder's place in the file is kept."""
        try:
            with av.open(str(self.path)) as container:
                packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        except av.FFmpegError as error:
            raise self._bad(f"is damaged ({_brief(error)})") from error
        keyframes = sorted(packet.pts for packet in packets if packet.is_keyframe)
        if any(packet.is_corrupt for packet in packets) or not keyframes:
            raise self._bad("has damaged or no packets; the recording may have been cut off")
        return Packets(np.array(sorted(packet.pts for packet in packets), np.int64), np.array(keyframes, np.int64))

    def _bad(self, what: str) -> BadEpisode:
        return BadEpisode(self.path.parent, f"{self.path.name} {what}.")


def _brief(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
