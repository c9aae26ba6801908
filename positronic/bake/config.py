"""How a baked dataset stores its frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from positronic.utils.fields import between


@dataclass
class VideoConfig:
    """How frames are stored. ``keyframe_interval``: every n-th frame can be decoded alone. ``crf``: lower is better.

    ``options`` go to the encoder as they are, after and over the others.
    """

    vcodec: str = "libx264"
    preset: str = "ultrafast"
    crf: int = between(0, 63, default=21)
    keyframe_interval: int = between(1, default=2)
    pix_fmt: str = "yuv420p"
    options: dict[str, Any] = field(default_factory=dict)
