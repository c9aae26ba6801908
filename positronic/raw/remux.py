"""Copies frames of an existing video into an episode without encoding them again.

That is exact and as fast as the disk, but a run of frames can be cut out of a video only where no frame needs one
outside of it. Where that is not so, they are to be encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from positronic.raw.container import brief, open_video, read_shown
from positronic.raw.faults import BadEpisode
from positronic.raw.video_writer import NOMINAL_FPS

TICKS_PER_FRAME = 128
TIMESCALE = NOMINAL_FPS * TICKS_PER_FRAME  # ticks a second, as in the files that are encoded here
MP4_CODECS = ("h264", "hevc", "av1", "vp9")


def copy_frames(source: Path, first: int, count: int, target: Path) -> bool:
    """Write frames ``first`` to ``first + count - 1`` of ``source``, counted as they are shown, to ``target``, an mp4.

    Returns False, and writes nothing, where they cannot be cut out or no mp4 holds their codec. Raises BadEpisode for a
    file that cannot be read, and for one with fewer frames.
    """
    shown = _shown(source, source.stat().st_mtime_ns) if source.exists() else read_shown(source).pts
    if first + count > len(shown):
        raise BadEpisode(source.parent, f"{source.name} holds {len(shown)} frames; {first + count} were expected.")
    wanted = shown[first : first + count]
    container, stream = open_video(source)
    with container:
        packets = _packets(container, stream, wanted) if stream.codec.canonical_name in MP4_CODECS else None
        if packets is None:
            return False
        _write(packets, stream, wanted, target)
    if np.array_equal(read_shown(target).pts, np.arange(count) * TICKS_PER_FRAME):
        return True
    target.unlink()
    return False


@lru_cache(maxsize=16)  # the episodes of one file come one after another
def _shown(path: Path, changed_ns: int) -> NDArray[np.int64]:
    return read_shown(path).pts


def _packets(container: InputContainer, stream: av.VideoStream, wanted: NDArray[np.int64]) -> list[Packet] | None:
    try:
        container.seek(int(wanted[0]), stream=stream)
        return _cut(container.demux(stream), int(wanted[0]), int(wanted[-1]), len(wanted))
    except av.FFmpegError as error:
        source = Path(container.name)
        raise BadEpisode(source.parent, f"{source.name} is damaged ({brief(error)}).") from None


def _cut(packets: Iterable[Packet], low: int, high: int, count: int) -> list[Packet] | None:
    """The packets of the frames, in the order of decoding; None unless they stand together, and a keyframe begins them
    and follows them, so that no frame needs one of the other side."""
    kept: list[Packet] = []
    after: int | None = None  # when the keyframe that follows is shown
    for packet in packets:
        if not packet.size or packet.pts is None:
            continue
        inside = low <= packet.pts <= high
        starts = packet.is_keyframe and packet.pts == low
        if inside and (after is not None or not (kept or starts)):
            return None
        if inside:
            kept.append(packet)
        elif after is not None:
            if packet.pts > after:
                break
        elif kept:
            if not packet.is_keyframe or packet.pts < high:
                return None
            after = packet.pts
    return kept if len(kept) == count else None


def _write(packets: list[Packet], stream: av.VideoStream, wanted: NDArray[np.int64], target: Path) -> None:
    places = np.searchsorted(wanted, [packet.pts for packet in packets])
    delay = int((np.arange(len(places)) - places).max())  # no frame is decoded after it is shown
    with av.open(str(target), "w", format="mp4", options={"video_track_timescale": str(TIMESCALE)}) as output:
        copy = output.add_stream_from_template(stream, opaque=True)
        for number, (packet, place) in enumerate(zip(packets, places.tolist(), strict=True)):
            packet.stream = copy
            packet.time_base = Fraction(1, TIMESCALE)
            packet.pts, packet.dts = place * TICKS_PER_FRAME, (number - delay) * TICKS_PER_FRAME
            packet.duration = TICKS_PER_FRAME
            output.mux(packet)
