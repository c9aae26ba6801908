"""Frames of one episode in a video that may hold many, found by the time at which they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError
from positronic.importing.lerobot_meta import Info, Place
from positronic.raw.container import Shown, missing_end, open_video, read_shown
from positronic.raw.decoder import Decoder

HALF = 0.5  # of a frame's time


class Frames(NamedTuple):
    """``count`` frames from number ``first`` on, counted as they are shown, in the file at ``path``."""

    path: Path
    first: int
    count: int
    shown: Shown

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """RGB (H, W, 3), one after another."""
        with Decoder(self.path, self.shown) as decoder:
            for number in range(self.first, self.first + self.count):
                yield decoder.rgb(number)


class _File(NamedTuple):
    shown: Shown
    seconds: NDArray[np.float64]
    size_hw: tuple[int, int]


def shown_of(path: Path) -> Shown:
    """Which frames the file shows; looked up once for the episodes that share it."""
    return _look(path, path.stat().st_mtime_ns).shown


def require_file(info: Info, place: Place, camera: str) -> None:
    """Raise PositronicError when the camera's file is not there."""
    path = place.videos[camera][0]
    if not path.is_file():
        raise PositronicError(
            f"{path}: missing; {info.path} lists the camera '{camera}', and episode {place.index} should be there. Copy"
            " the dataset again, whole."
        )


def find_frames(info: Info, place: Place, camera: str) -> Frames:
    """The episode's frames. Raises PositronicError where the file holds fewer, more, others than ``meta/`` says, or is
    cut short."""
    require_file(info, place, camera)
    path, begins = place.videos[camera]
    file = _look(path, path.stat().st_mtime_ns)
    where = f"{path}, episode {place.index}"
    size = info.features[camera].size_hw
    if file.size_hw != size:
        raise PositronicError(f"{where}: frames of {_by(file.size_hw)}; {info.path} says {_by(size)}.")
    first = int(np.argmin(np.abs(file.seconds - begins))) if info.is_shared else 0
    if info.is_shared and abs(file.seconds[first] - begins) * info.fps > HALF:
        raise PositronicError(
            f"{where}: no frame at {begins:g} s, where it should begin; the nearest is at {file.seconds[first]:g} s."
        )
    found = len(file.seconds) - first
    if found < place.length or (found > place.length and not info.is_shared):
        raise PositronicError(f"{where}: {found} frames; the list of episodes says {place.length}.")
    _require_rate(info, where, file.seconds[first : first + place.length])
    return Frames(path, first, place.length, file.shown)


@lru_cache(maxsize=16)  # the episodes of one file come one after another
def _look(path: Path, changed_ns: int) -> _File:
    fault = missing_end(path)
    if fault:
        raise PositronicError(f"{path}: cut short ({fault}). Copy it again.")
    container, stream = open_video(path)
    with container:
        base, context = stream.time_base, stream.codec_context
        size = context.height, context.width
    shown = read_shown(path)
    return _File(shown, shown.pts * float(base), size)


def _require_rate(info: Info, where: str, seconds: NDArray[np.float64]) -> None:
    expected = np.arange(len(seconds)) / info.fps
    late = np.flatnonzero(np.abs(seconds - seconds[:1] - expected) * info.fps > HALF)
    if len(late):
        at = int(late[0])
        raise PositronicError(
            f"{where}: frame {at} is shown {seconds[at] - seconds[0]:g} s after the first; {info.path} says fps "
            f"{info.fps:g}, which makes it {expected[at]:g} s."
        )


def _by(size_hw: tuple[int, int] | None) -> str:
    return "no size" if size_hw is None else f"{size_hw[0]} x {size_hw[1]} (height x width)"
