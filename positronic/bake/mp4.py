"""How many frames an mp4 holds, told by its header: nothing is decoded, so that thousands can be asked."""

from __future__ import annotations

from pathlib import Path

import av

from positronic.bake.reading import reading

BOX_HEADER = 8  # bytes: size, kind
TO_THE_END, LARGE = 0, 1  # sizes that stand for something else: the rest of the file, 64 bits that follow


def count_frames(path: Path, fps: int, size: tuple[int, int]) -> int:
    """Frames of ``size`` (height, width), frame k shown at k / fps s.

    Raises PositronicError for a file that was cut short, cannot be read, or shows something else.
    """
    with reading(path):
        _require_all_boxes(path)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            found = stream.codec_context.height, stream.codec_context.width
            if found != size:
                raise ValueError(f"its frames are {found[0]} x {found[1]}, expected {size[0]} x {size[1]}")
            seconds = float(stream.duration * stream.time_base)
            if stream.start_time or round(seconds * fps) != stream.frames:
                raise ValueError(f"{stream.frames} frames last {seconds:g} s, expected {stream.frames / fps:g} s")
            return stream.frames


def _require_all_boxes(path: Path) -> None:
    """Raise ValueError unless the boxes that the file consists of end where it does (ISO/IEC 14496-12, 4.2): a header
    at the front is whole though frames were cut off behind it."""
    end, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start < end:
            file.seek(start)
            size = int.from_bytes(file.read(4))
            file.seek(start + BOX_HEADER)
            if size == LARGE:
                size = int.from_bytes(file.read(8))
            elif size == TO_THE_END:
                size = end - start
            if size < BOX_HEADER or start + size > end:
                raise ValueError(f"what begins at byte {start} should end at {start + size}, the file does at {end}")
            start += size
    if not end:
        raise ValueError("it is empty")
