"""What a camera's file holds: its one video stream, and which frames of it are shown, in order of their time.

A file may hold more frames than a player shows. A file that was trimmed without encoding again keeps the packets before
its beginning, and its edit list hides them. A file that was cut in the middle starts with packets that need a missing
picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from positronic.raw.faults import BadEpisode
from positronic.utils.colour import has_known_matrix, is_colour_8bit

ENCODE_AGAIN = "Encode the file again as 8-bit colour (yuv420p, square pixels, progressive), or leave this camera out"
BY_FFMPEG = f"{ENCODE_AGAIN}. FFmpeg does it: ffmpeg -i old.mp4 -fps_mode passthrough -pix_fmt yuv420p new.mp4"
BOX_HEADER = 8  # bytes: size and kind (ISO/IEC 14496-12, 4.2)
FIRST_BOX = b"ftyp"
TO_THE_END, LARGE = 0, 1  # sizes that stand for the rest of the file, and for 64 bits that follow


class Shown(NamedTuple):
    """Presentation stamps in the stream's time base, ascending: ``pts`` (N,) of the frames that are shown,
    ``keyframes`` of the packets from which decoding can start, hidden ones too."""

    pts: NDArray[np.int64]
    keyframes: NDArray[np.int64]


def open_video(path: Path) -> tuple[InputContainer, av.VideoStream]:
    """The open file and its camera. Raises BadEpisode: missing, cut off, no camera or several, no 8-bit colour."""
    try:
        container = av.open(str(path), metadata_errors="replace")  # a title in another encoding is no fault
    except FileNotFoundError as error:
        raise bad(path, "is missing") from error
    except (av.FFmpegError, OSError) as error:
        raise bad(path, f"cannot be opened ({brief(error)}); the recording may have been cut off") from error
    streams = [stream for stream in container.streams.video if Disposition.attached_pic not in stream.disposition]
    fault = _fault_of_streams(streams)
    if fault:
        container.close()
        raise bad(path, fault)
    return container, streams[0]


def read_shown(path: Path) -> Shown:
    """Which frames are shown, by its packets, without decoding. Raises BadEpisode as ``open_video``, and on damage."""
    container, stream = open_video(path)
    try:
        with container:
            packets = [packet for packet in container.demux(stream) if packet.size]
    except av.FFmpegError as error:
        raise bad(path, f"is damaged ({brief(error)})") from error
    start = next((number for number, packet in enumerate(packets) if packet.is_keyframe), None)
    if start is None or any(packet.is_corrupt for packet in packets):
        raise bad(path, "has damaged or no packets; the recording may have been cut off")
    if any(packet.pts is None for packet in packets):
        raise bad(path, "has frames without a presentation time; write it as mp4 again")
    first = packets[start].pts  # what precedes the first keyframe, in the file or on the screen, cannot be decoded
    pts = np.array(
        sorted(packet.pts for packet in packets[start:] if packet.pts >= first and not packet.is_discard), np.int64
    )
    if (np.diff(pts) == 0).any():
        raise bad(path, f"has two frames at one time (frame {int(np.argmin(np.diff(pts)))})")
    return Shown(pts, np.array(sorted(packet.pts for packet in packets if packet.is_keyframe), np.int64))


def _fault_of_streams(streams: list[av.VideoStream]) -> str | None:
    """Why this is not a camera's file."""
    if len(streams) != 1:
        return f"has {len(streams)} video streams, one was expected" if streams else "has no video stream"
    context = streams[0].codec_context
    if context is None:
        return f"is in a codec that cannot be decoded here. {BY_FFMPEG}"
    if context.format is None:
        return "has no decodable pictures; the recording may have been cut off"
    if not is_colour_8bit(context.format):
        return f"holds pictures in the pixel format {context.format.name}, 8-bit colour was expected. {BY_FFMPEG}"
    aspect = streams[0].sample_aspect_ratio
    if aspect not in (None, 0, 1):
        return f"has pixels that are not square (aspect {aspect.numerator}:{aspect.denominator}). {ENCODE_AGAIN}"
    return None


def missing_end(path: Path) -> str | None:
    """What says that the mp4 at ``path`` was cut short; None when it is whole, and for what begins like no mp4.

    Its boxes must end where the file does. A player shows a file whose last bytes are gone without a word, as long as
    it needs none of them, and a header at the front is whole though frames were cut off behind it. Raises OSError when
    the file cannot be read.
    """
    end, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start < end:
            file.seek(start)
            header = file.read(2 * BOX_HEADER)
            if not start and header[4:BOX_HEADER] != FIRST_BOX:
                return None
            size = int.from_bytes(header[:4])
            size = int.from_bytes(header[BOX_HEADER:]) if size == LARGE else size
            size = end - start if size == TO_THE_END else size
            if size < BOX_HEADER or start + size > end:
                return f"the box at byte {start} should end at byte {start + size}, but the file ends at byte {end}"
            start += size
    return None


def fault_of_frame(frame: av.VideoFrame, width: int, height: int) -> str | None:
    """Why a decoded frame is not the picture that the camera took."""
    if frame.is_corrupt:
        return "is damaged"
    if (frame.width, frame.height) != (width, height):
        return f"is {frame.width} x {frame.height} pixels large (width x height), {width} x {height} were expected"
    if not is_colour_8bit(frame.format):
        return f"changes to the pixel format {frame.format.name}. {BY_FFMPEG}"
    if not has_known_matrix(frame):
        return f"has a colour matrix that is not supported (number {frame.colorspace} of H.273). {ENCODE_AGAIN}"
    if frame.rotation:
        return f"is stored turned by {frame.rotation} degrees. Encode the file again as it should be seen"
    if frame.interlaced_frame:
        return f"is interlaced: its rows were taken at two times. {ENCODE_AGAIN}"
    return None


def bad(path: Path, what: str) -> BadEpisode:
    """``what`` is wrong with the file."""
    return BadEpisode(path.parent, f"{path.name} {what}.")


def brief(error: Exception) -> str:
    """What the system or FFmpeg says."""
    return getattr(error, "strerror", None) or str(error)
