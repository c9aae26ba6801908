"""What a LeRobot dataset says about its columns."""

from __future__ import annotations

from typing import Any

from positronic.bake.config import VideoConfig
from positronic.codecs.features import Feature, VectorFeature
from positronic.codecs.modality import Column, Modality

TIMESTAMP = "timestamp"
FRAME_INDEX = "frame_index"
EPISODE_INDEX = "episode_index"
INDEX = "index"
TASK_INDEX = "task_index"
BOOKKEEPING = {TIMESTAMP: "float32", FRAME_INDEX: "int64", EPISODE_INDEX: "int64", INDEX: "int64", TASK_INDEX: "int64"}

CHANNELS = ("red", "green", "blue")
CANONICAL_CODECS = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1", "libaom-av1": "av1"}


def lerobot_features(modality: Modality, fps: int, video: VideoConfig) -> dict[str, dict[str, Any]]:
    """Column name -> dtype, shape, names and, for a camera, how it is encoded. LeRobot's own columns come last."""
    columns = {column.name: _feature(column, fps, video) for column in modality.columns}
    return columns | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in BOOKKEEPING.items()}


def _feature(column: Column, fps: int, video: VideoConfig) -> dict[str, Any]:
    shape = list(column.shape)
    if column.is_image:
        names = ["height", "width", "channels"]
        return {"dtype": "video", "shape": shape, "names": names, "info": _video_info(column, fps, video)}
    return {"dtype": column.dtype, "shape": shape, "names": dimension_names(column)}


def dimension_names(column: Column) -> list[str]:
    """One name per number of a vector, or per channel of a picture."""
    return list(CHANNELS) if column.is_image else [n for source in column.sources for n in element_names(source)]


def element_names(feature: Feature) -> list[str]:
    """One name per number of a vector: ``ee_pose.x``, ``joint_position.0``, ``grip``."""
    assert isinstance(feature, VectorFeature)
    return feature.part.element_names


def _video_info(column: Column, fps: int, video: VideoConfig) -> dict[str, Any]:
    height, width, channels = column.shape
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": CANONICAL_CODECS.get(video.vcodec, video.vcodec),
        "video.pix_fmt": video.pix_fmt,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
        "video.g": video.keyframe_interval,
        "video.crf": video.crf,
        "video.preset": video.preset,
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": dict(video.options),
        "is_depth_map": False,
    }
