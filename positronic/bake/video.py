"""Encoding one episode's frames, and joining finished pieces without encoding again.

Each piece is encoded alone, with one thread and without B-frames. So its bytes depend only on its frames and settings,
each packet is one frame in display order, and pieces can be joined packet by packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from positronic.bake.config import VideoConfig
from positronic.errors import PositronicError
from positronic.utils.colour import FromRgb, keeps_colours

BITEXACT = {"fflags": "+bitexact"}  # no library versions in the files
SVT_AV1 = "libsvtav1"


def encoder_options(video: VideoConfig) -> dict[str, str]:
    """What the encoder is told; ``video.options`` come last."""
    # No B-frames and no keyframes at cuts: a packet is a frame, and every n-th one can be decoded alone.
    options = {"preset": video.preset, "crf": video.crf, "g": video.keyframe_interval, "bf": 0, "sc_threshold": 0}
    one_thread = {"svtav1-params": "lp=1"} if video.vcodec == SVT_AV1 else {"threads": 1}
    return {key: str(value) for key, value in (options | one_thread | video.options).items()}


class PieceWriter:
    """One episode of one camera as an mp4; see ``piece_writer``."""

    def __init__(self, path: Path, height: int, width: int, fps: int, video: VideoConfig) -> None:
        self._time_base = Fraction(1, fps)
        self._count = 0
        self._container = av.open(str(path), "w", options=dict(BITEXACT))
        self._stream = self._container.add_stream(video.vcodec, fps, options=encoder_options(video))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, video.pix_fmt
        self._stream.time_base = self._time_base
        self._stream.codec_context.flags |= av.codec.context.Flags.bitexact

    def write(self, frame: av.VideoFrame) -> None:
        """Append one frame; the same object may be written again."""
        frame.pts, frame.time_base = self._count, self._time_base
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    def flush(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        """Close the file."""
        self._container.close()


@contextmanager
def piece_writer(path: Path, height: int, width: int, fps: int, video: VideoConfig) -> Iterator[PieceWriter]:
    """A PieceWriter that finishes its file at the end; after an exception the file is closed as it is."""
    writer = PieceWriter(path, height, width, fps, video)
    try:
        yield writer
        writer.flush()
    finally:
        writer.close()


def check_encoder(path: Path, height: int, width: int, fps: int, video: VideoConfig) -> None:
    """Encode one frame into ``path`` and read it again. Raises PositronicError if the encoder refuses the settings, or
    if the picture comes back in other colours."""
    try:
        # One frame is enough: an encoder refuses its settings when it is opened, and the stream says its colours.
        black = FromRgb(video.pix_fmt).from_array(np.zeros((height, width, 3), np.uint8))
        with piece_writer(path, height, width, fps, video) as writer:
            writer.write(black)
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, ValueError) as error:
        options = ", ".join(f"{key}={value}" for key, value in encoder_options(video).items())
        raise PositronicError(
            f"The encoder '{video.vcodec}' refuses {width}x{height} {video.pix_fmt} with {options}: {error}. "
            "Change video.vcodec, video.preset, video.pix_fmt or video.options."
        ) from None
    finally:
        path.unlink(missing_ok=True)
    if not keeps_colours(video.pix_fmt, frame):
        raise PositronicError(
            f"The encoder '{video.vcodec}' with video.pix_fmt={video.pix_fmt} and video.options={video.options} does "
            "not keep the colours: a pixel format in colour was expected, and no other matrix or range than its own "
            "(BT.601, limited). Use video.pix_fmt=yuv420p, and leave what is about colours out of video.options."
        )


class Joiner:
    """Joins pieces into one mp4, frame k of the file at k / fps exactly."""

    def __init__(self, path: Path, fps: int) -> None:
        self.frames = 0
        self.bytes = 0
        self._fps = fps
        self._container = av.open(str(path), "w", options=BITEXACT | {"movflags": "+faststart"})  # its index first
        self._stream: av.VideoStream | None = None

    def append(self, piece: Path, frames: int) -> None:
        """Append a piece of ``frames`` frames. Raises RuntimeError when it holds another number of them."""
        with av.open(str(piece)) as source:
            stream = source.streams.video[0]
            if self._stream is None:
                self._stream = self._container.add_stream_from_template(stream, opaque=True)
                self._stream.time_base = stream.time_base
            ticks = int(1 / (self._fps * stream.time_base))
            count = self._copy(source, ticks)
        if count != frames:
            raise RuntimeError(f"{piece}: {count} frames were encoded of {frames}")
        self.frames += count
        self.bytes += piece.stat().st_size

    def _copy(self, source: av.container.InputContainer, ticks: int) -> int:
        count = 0
        for packet in source.demux(video=0):
            if packet.dts is None:  # the demuxer's last, empty packet
                continue
            packet.pts += self.frames * ticks
            packet.dts += self.frames * ticks
            packet.duration = ticks
            packet.stream = self._stream
            self._container.mux(packet)
            count += 1
        return count

    def close(self) -> None:
        """Finish the file."""
        self._container.close()
