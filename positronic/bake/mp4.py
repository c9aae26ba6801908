"""How many frames an mp4 holds, by its header. Nothing is decoded, so thousands of files can be asked."""

from __future__ import annotations

from pathlib import Path

import av

from positronic.bake.reading import reading
from positronic.raw.container import missing_end


def count_frames(path: Path, fps: int, size: tuple[int, int]) -> int:
    """Number of frames. They must be of ``size`` (height, width), and frame k must be shown at k / fps s.

    Raises PositronicError for a file that was cut short, cannot be read, or shows something else.
    """
    with reading(path):
        if fault := missing_end(path):
            raise ValueError(fault)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            found = stream.codec_context.height, stream.codec_context.width
            if found != size:
                raise ValueError(f"its frames are {found[0]} x {found[1]}, expected {size[0]} x {size[1]}")
            seconds = float(stream.duration * stream.time_base)
            if stream.start_time or round(seconds * fps) != stream.frames:
                raise ValueError(f"{stream.frames} frames last {seconds:g} s, expected {stream.frames / fps:g} s")
            return stream.frames
