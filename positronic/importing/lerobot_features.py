"""Columns of a LeRobot dataset, by what ``meta/info.json`` says of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from positronic.importing.source import IMAGE, SCALAR, TEXT, VECTOR

VIDEO, PICTURE, STRING = "video", "image", "string"  # LeRobot's dtypes beside numpy's
NUMBERS = re.compile(r"(float|u?int)(8|16|32|64)|bool")
COLOURS = 3
NOT_NAMED = re.compile(r"(motor|dim|state|action|value|element)?s?_?\d+")  # names that say only the place


@dataclass(frozen=True)
class Feature:
    """A column. ``names``: of a vector's numbers, where they say something. ``encoding``: of a video."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    encoding: str = ""
    is_depth: bool = False

    @property
    def is_video(self) -> bool:
        return self.dtype == VIDEO

    @property
    def kind(self) -> str:
        """As ``FieldInfo.kind``; empty for what is not imported."""
        if self.dtype in (VIDEO, PICTURE):
            return IMAGE if self.size_hw and not self.is_depth else ""
        if self.dtype == STRING:
            return TEXT if self.shape in ((), (1,)) else ""
        if not NUMBERS.fullmatch(self.dtype) or len(self.shape) > 1:
            return ""
        return SCALAR if self.shape in ((), (1,)) and not self.names else VECTOR

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Height and width of a picture in colour, whichever way its shape is written."""
        if len(self.shape) != 3:
            return None
        if self.shape[-1] == COLOURS:
            return self.shape[0], self.shape[1]
        return (self.shape[1], self.shape[2]) if self.shape[0] == COLOURS else None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """As ``FieldInfo.shape``."""
        if self.kind == IMAGE:
            return (*self.size_hw, COLOURS)
        return self.shape if self.kind == VECTOR else ()

    @property
    def why_not(self) -> str:
        """Why it is no field."""
        if self.is_depth:
            return "depth, which is not imported"
        return f"{self.dtype} of shape {list(self.shape)}, which is not imported"


def read_feature(entry: Mapping[str, Any]) -> Feature:
    """What the file says. Raises what the lack of an entry makes Python raise."""
    dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
    about = entry.get("info") or entry.get("video_info") or {}
    is_depth = bool(about.get("is_depth_map") or about.get("video.is_depth_map"))
    names = _names(entry.get("names"), shape) if len(shape) == 1 else None
    return Feature(dtype, shape, names, str(about.get("video.codec") or ""), is_depth)


def _names(said: Any, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """A list, ``{"motors": [...]}``, deeper ones, or ``{"x": 0, "y": 1}``; None where they say nothing."""
    if isinstance(said, Mapping) and said and all(isinstance(value, int) for value in said.values()):
        said = sorted(said, key=said.__getitem__)
    names = tuple(_leaves(said))
    return None if len(names) != shape[0] or all(map(NOT_NAMED.fullmatch, names)) else names


def _leaves(said: Any) -> Iterator[str]:
    if isinstance(said, Mapping):
        said = list(said.values())
    if isinstance(said, list):
        for each in said:
            yield from _leaves(each)
    elif said is not None:
        yield str(said)
