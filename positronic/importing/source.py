"""What a source of recordings offers to `stage=import`: episodes by name, and in each the fields that it holds.

A source (``lerobot``, ``hdf5``, ``mcap``, ``rlds``) is a class that ``Source`` describes, made from a path. It converts
nothing: numbers come as they were recorded, and what they mean is said by the mapping (``importing/mapping.py``). What
a source states, or what is usual for its format, it adds to a field as ``Belief``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from positronic.embodiments.embodiment import Embodiment
from positronic.importing.mapping import ImportMapping

Times = NDArray[np.int64]

VECTOR, SCALAR, IMAGE, TEXT = "vector", "scalar", "image", "text"
KINDS = (VECTOR, SCALAR, IMAGE, TEXT)
MEASURED, COMMANDED = "measured", "commanded"


class Belief(NamedTuple):
    """A convention with its reason, which the proposal shows. ``known``: the recording itself says so, so that nobody
    needs to be asked; otherwise somebody must agree."""

    value: Any
    why: str
    known: bool = False


@dataclass(frozen=True)
class FieldInfo:
    """A field, by a look at the first episode or a few.

    ``shape``: of a sample: () of a scalar or text, (D,), (H, W, 3). ``names``: of a vector's numbers, where the
    recording has them. ``low``, ``high``: extremes of each number, () for images and text. ``encoding``: how pictures
    or texts are stored (``h264``, ``png``, ``jpeg``, ``pixels``). ``role``: ``measured``, ``commanded`` or empty, where
    only the name could tell. ``believed``: of the conventions in ``SignalMapping`` (unit, open, closed, rotation,
    clock, channels), those that this source can say something about. ``samples``: how many the first episode has.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    names: tuple[str, ...] | None = None
    rate_hz: float | None = None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    encoding: str = ""
    role: str = ""
    believed: Mapping[str, Belief] = field(default_factory=dict)
    samples: int | None = None

    @property
    def size(self) -> int:
        """Numbers a sample."""
        return int(np.prod(self.shape, dtype=int))


class Samples(NamedTuple):
    """``times_ns`` (N,) increase. ``values``: (N,) or (N, D) numbers, or N texts."""

    times_ns: Times
    values: NDArray[Any] | list[str]


class VideoSpan(NamedTuple):
    """Frames in an existing video file: ``times_ns`` (N,) of the N frames from number ``first`` on, counted as they are
    shown."""

    path: Path
    first: int
    times_ns: Times


@dataclass(frozen=True)
class How:
    """How a field is to be read, by the mapping. ``clock``: of several, which; empty: the only one. ``fps``: for
    recordings without stamps; ``channels``: rgb or bgr, the order in which the pictures hold their colours."""

    clock: str = ""
    fps: float | None = None
    channels: str = "rgb"


class Reading(Protocol):
    """An open episode. Nothing is read before it is asked for; images come one by one.

    Times are whole ns, on one clock for all fields. Every method raises PositronicError, with file and field, for what
    is damaged.
    """

    def read(self, field: str) -> Samples:
        """All samples of a vector, scalar or text."""

    def frames(self, field: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """``(time_ns, RGB (H, W, 3))`` one after another."""

    def video(self, field: str) -> VideoSpan | None:
        """Where the frames lie if they are in a video file already, so that they need not be encoded again; else
        None."""


class SourceEpisode(Protocol):
    """One recorded episode. It pickles, holds no open file, and is cheap to make."""

    @property
    def name(self) -> str:
        """Its identity in the source: the same for the same recording in every run, e.g. a file's name."""

    @property
    def task(self) -> str | None:
        """The instruction, where the recording has one for the whole episode."""

    @property
    def statics(self) -> Mapping[str, Any]:
        """What else holds throughout the episode: JSON values; keys are the source's own names."""

    def open(self, fields: Mapping[str, How]) -> AbstractContextManager[Reading]:
        """Open it for reading these fields.

        Raises PositronicError where a field is missing, or is not what the first episode's was: another number of
        dimensions, other joints or another order of them.
        """


class Source(Protocol):
    """Recordings of one kind at a path."""

    @property
    def path(self) -> Path:
        """The folder or file."""

    def episodes(self) -> Sequence[SourceEpisode]:
        """All episodes, in a stable order, without reading them.

        Raises PositronicError, with the file's name, for one that is still being written, is damaged, or is no
        recording of this kind.
        """

    def fields(self) -> Mapping[str, FieldInfo]:
        """The fields of the first episode (or of a few), by name."""

    def stated(self, embodiment: Embodiment | None) -> ImportMapping | None:
        """The whole mapping, if the recording itself states every convention; None for most."""
