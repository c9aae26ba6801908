"""One open video: frames by number. They are found by presentation time, and decoded in order or from the keyframe
before."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from positronic.raw.container import Shown, bad, brief, fault_of_frame, open_video, read_shown
from positronic.raw.faults import BadEpisode
from positronic.utils.colour import ToRgb

SEEK_GAP = 30  # frames; a nearer target is decoded to, as published files have a keyframe every 30 frames


class Decoder:
    """Context manager around an open video. Frame k is the k-th that a player shows, whatever the file holds besides.

    ``shown``: which frames these are, when it is known. Raises BadEpisode when the file is missing, truncated or
    damaged, or holds no 8-bit colour.
    """

    def __init__(self, path: Path, shown: Shown | None = None) -> None:
        self.path = path
        self._known = shown
        self._to_rgb = ToRgb()
        self._open()

    def _open(self) -> None:
        self._container, self._stream = open_video(self.path)
        context = self._stream.codec_context  # which takes another size when the frames do
        self._width, self._height = context.width, context.height
        context.thread_count = 1  # episodes are read in parallel
        self._stream.thread_type = "SLICE"
        self._go_on_from(-1)

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
        return self._height

    @property
    def width(self) -> int:
        """Pixels."""
        return self._width

    @cached_property
    def shown(self) -> Shown:
        """Which frames are shown; from a pass of its own, so that the decoder's place in the file is kept."""
        return self._known or read_shown(self.path)

    def count_frames(self) -> int:
        """Number of frames that are shown, by walking the packets. Raises BadEpisode when one is damaged."""
        return len(self.shown.pts)

    def rgb(self, index: int) -> NDArray[np.uint8]:
        """Frame ``index`` as RGB, uint8 (H, W, 3)."""
        return self._to_rgb.array(self.frame(index))

    def frame(self, index: int) -> av.VideoFrame:
        """Frame ``index`` >= 0 in order of presentation. Asking for the same again decodes nothing."""
        if index >= self.count_frames():
            raise bad(self.path, f"holds {self.count_frames()} frames, but frame {index} was asked for")
        if not self._position <= index <= self._position + SEEK_GAP:
            self._seek(index)
        while self._position < index:
            self._step(index)
        if self._position != index:
            raise bad(self.path, f"cannot be decoded at frame {index}")
        fault = fault_of_frame(self._frame, self._width, self._height)
        if fault:
            raise bad(self.path, f"at frame {index} {fault}")
        return self._frame

    def _step(self, target: int) -> None:
        try:
            self._frame = next(self._frames)
        except StopIteration:
            raise bad(self.path, f"ends after {self._position + 1} frames, but frame {target} was asked for") from None
        except av.FFmpegError as error:
            raise bad(self.path, f"cannot be decoded after frame {self._position} ({brief(error)})") from error
        last, self._position = self._position, self._number(self._frame)
        if self._in_order and self._position != last + 1:
            raise bad(self.path, f"cannot be decoded at frame {last + 1}")
        self._in_order = True

    def _number(self, frame: av.VideoFrame) -> int:
        pts = self.shown.pts
        number = -1 if frame.pts is None else int(np.searchsorted(pts, frame.pts))
        if not 0 <= number < len(pts) or pts[number] != frame.pts:
            raise bad(self.path, f"shows a frame at a time ({frame.pts}) that none of its packets has")
        return number

    def _go_on_from(self, position: int) -> None:
        """Begin to decode; frame ``position`` was the last one, or it is open which comes next."""
        self._frames: Iterator[av.VideoFrame] = self._container.decode(self._stream)
        self._position = position
        self._in_order = False

    def _seek(self, index: int) -> None:
        """Go to the keyframe at or before ``index``, unless decoding on from here is as short."""
        pts, keyframes = self.shown
        key_pts = keyframes[max(np.searchsorted(keyframes, pts[index], side="right") - 1, 0)]
        key_index = int(np.searchsorted(pts, key_pts))
        if self._position < index and key_index <= self._position + 1:
            return
        if not self._lands_before(int(key_pts), index):  # not every demuxer finds each keyframe: from the beginning
            self.close()
            self._open()

    def _lands_before(self, pts: int, index: int) -> bool:
        """Whether a seek to ``pts`` leads to a frame from which ``index`` can be reached."""
        try:
            self._container.seek(pts, stream=self._stream)
            self._go_on_from(-1)
            self._step(index)
        except (BadEpisode, av.FFmpegError):
            return False
        return self._position <= index
