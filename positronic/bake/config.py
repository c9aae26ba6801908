"""How a baked dataset stores its frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from positronic.utils.fields import between, name


@dataclass
class VideoConfig:
    """How frames are stored.

    vcodec: ffmpeg's name of the encoder
    preset: of the encoder, from ultrafast to veryslow
    crf: quality; lower is better and larger
    keyframe_interval: every n-th frame can be decoded alone
    pix_fmt: pixel format
    options: go to the encoder as they are, after and over the others
    """

    vcodec: str = name("libx264", "an encoder's name")
    preset: str = name("ultrafast", "a preset's name")
    crf: int = between(0, 63, default=21)
    keyframe_interval: int = between(1, default=2)
    pix_fmt: str = name("yuv420p", "a pixel format's name")
    options: dict[str, Any] = field(default_factory=dict)
