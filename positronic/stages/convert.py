"""stage=convert: raw episodes through a codec into a LeRobot dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from positronic.stages.base import Parts
from positronic.utils.fields import above, between, one_of


@dataclass
class VideoConfig:
    """How frames are stored. ``keyframe_interval``: every n-th frame can be decoded alone. ``crf``: lower is better."""

    vcodec: str = "libx264"
    preset: str = "superfast"
    crf: int = between(0, 63, default=23)
    keyframe_interval: int = between(1, default=2)
    pix_fmt: str = "yuv420p"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Convert(Parts):
    """``output_dir``: the baked dataset. ``fps``: null takes ``modality.action_fps``. ``task``: replaces every
    episode's own. ``max_staleness_sec``: an image older than this makes a bad episode, null allows any age.
    ``on_bad_episode``: ``stop`` or ``skip``. ``num_workers``: processes, 0 means one per core.
    """

    uses: ClassVar[tuple[str, ...]] = ("dataset", "codec", "modality")

    output_dir: str = "${paths.root}/baked/${dataset.name}/${vendor.name}/${codec.name}/${dataset_format}"
    dataset_format: str = one_of("v3.0", default="v3.0")
    fps: int | None = between(1, default=None)
    task: str | None = None
    max_staleness_sec: float | None = above(0, default=1.0)
    on_bad_episode: str = one_of("stop", "skip", default="stop")
    num_workers: int = between(0, default=0)
    video: VideoConfig = field(default_factory=VideoConfig)


def run(config: Convert) -> None:
    raise NotImplementedError
