"""HDF5 recordings: ALOHA's and robomimic's layout, and any other whose datasets begin with time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.importing import hdf5_layouts as layouts
from positronic.importing.clocks import grid
from positronic.importing.hdf5_beliefs import with_beliefs
from positronic.importing.hdf5_file import (
    SUFFIXES,
    datasets,
    looking_into,
    open_hdf5,
    require_written,
    samples,
    telling_damage,
)
from positronic.importing.hdf5_pictures import frame_of, picture_encoding
from positronic.importing.mapping import RGB, ImportMapping
from positronic.importing.names import natural
from positronic.importing.source import IMAGE, SCALAR, TEXT, VECTOR, FieldInfo, How, Samples

if TYPE_CHECKING:
    import h5py

LONGEST = 500  # characters of an attribute that is kept; whole models are noted as text, too
TASK_NAMES = ("task", "language_instruction", "instruction", "language", "lang")
NUMERIC = "biuf"
TEXTS = "SO"  # numpy's kinds


class Hdf5Source:
    """The file or folder at ``path``. Raises PositronicError when there is no HDF5 file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = [path] if path.is_file() else sorted(_files(path), key=natural)
        if not self.files:
            raise PositronicError(f"{path}: no HDF5 file ({', '.join(SUFFIXES)}) in this folder or below.")

    @cached_property
    def layout(self) -> str:
        """Of the first file."""
        with looking_into(self.files[0]) as file:
            return layouts.layout_of(file)

    def episodes(self) -> list[Hdf5Episode]:
        """In order. Of layouts in which a file is an episode, only the first file is opened: what is wrong with another
        one is found when it is read, and is its own."""
        return [episode for file in self.files for episode in self._episodes_of(file)]

    def fields(self) -> dict[str, FieldInfo]:
        """Every dataset that is as long as the first episode and holds numbers, texts or pictures."""
        return dict(self._fields)

    def stated(self, embodiment: Embodiment | None) -> ImportMapping | None:
        """None: no layout states everything."""
        return None

    @cached_property
    def _fields(self) -> dict[str, FieldInfo]:
        with looking_into(self.files[0]) as file:
            place = layouts.places(file)[0]
            there = {name: data for name, data in datasets(file[place.group]).items() if _belongs(name, data, place)}
            found = {name: info for name, data in there.items() if (info := described(data))}
            found = {name: _with_extremes(info, there[name]) for name, info in found.items()}
            return with_beliefs(found, file, self.layout)

    def _episodes_of(self, path: Path) -> list[Hdf5Episode]:
        name = path.name if path == self.path else str(path.relative_to(self.path))
        if self.layout != layouts.ROBOMIMIC:
            return [Hdf5Episode(name, path, "/", None, self._fields)]
        with looking_into(path) as file:
            fps = layouts.stated_fps(file, self.layout)
            groups = [place.group for place in layouts.places(file)]
        return [Hdf5Episode(f"{name}:{group}", path, group, fps, self._fields) for group in groups]


@dataclass(frozen=True)
class Hdf5Episode:
    """An episode of a file. ``fps``: what the file states; ``expected``: the fields of the first episode."""

    name: str
    path: Path
    group: str
    fps: float | None
    expected: Mapping[str, FieldInfo] = field(repr=False)

    @property
    def task(self) -> str | None:
        """What the robot was told, where the file says so under one of the usual names."""
        with looking_into(self.path) as file:
            return next((text for holder in (file[self.group], file) if (text := _task(holder))), None)

    @property
    def statics(self) -> dict[str, Any]:
        """The attributes of the file and of the episode: texts and numbers."""
        with looking_into(self.path) as file:
            return {key: value for holder in (file, file[self.group]) for key, value in _plain(holder.attrs).items()}

    @contextmanager
    def open(self, fields: Mapping[str, How]) -> Iterator[Hdf5Reading]:
        """Open it for reading these fields. Raises PositronicError for a field that is missing, not written yet, of
        another length than the episode, or of other samples than in the first episode; and without a rate."""
        with open_hdf5(self.path) as file:
            with telling_damage(str(self.path)):
                there = datasets(file[self.group])
                length = layouts.length(file[self.group], str(self.path))
                for name in fields:
                    self._require(name, there, length)
            grids = {name: grid(length, self._fps(how)) for name, how in fields.items()}
            yield Hdf5Reading(str(self.path), {name: there[name] for name in fields}, dict(fields), grids)

    def _require(self, name: str, there: Mapping[str, h5py.Dataset], length: int) -> None:
        where = f"{self.path}, '{name}'"
        if name not in there:
            raise PositronicError(f"{where}: no such dataset.{did_you_mean(name, there)} Present: {listing(there)}.")
        data, expected = there[name], self.expected.get(name)
        require_written(data, where)
        if data.shape[:1] != (length,):
            raise PositronicError(
                f"{where}: the shape {data.shape}, in an episode of {length} samples. Is it still being written?"
            )
        found = described(data)
        if found is None or expected is None:
            raise PositronicError(f"{where}: samples of {data.dtype} and shape {data.shape[1:]} are not imported.")
        if (found.kind, found.shape, found.encoding) != (expected.kind, expected.shape, expected.encoding):
            raise PositronicError(f"{where}: {_said(found)}; in the first episode it is {_said(expected)}.")

    def _fps(self, how: How) -> float:
        fps = how.fps or self.fps
        if not fps:
            raise PositronicError(f"{self.path}: nothing says how many samples there are in a second. Type fps=<rate>.")
        return fps


@dataclass(frozen=True)
class Hdf5Reading:
    """An open episode."""

    where: str
    data: Mapping[str, h5py.Dataset]
    how: Mapping[str, How]
    times: Mapping[str, NDArray[np.int64]]

    def read(self, field: str) -> Samples:
        """All samples of a vector, scalar or text."""
        data = self.data[field]
        with telling_damage(f"{self.where}, '{field}'"):
            values = data.asstr(errors="replace")[:].tolist() if data.dtype.kind in TEXTS else data[:]
        return Samples(self.times[field], values)

    def frames(self, field: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """``(time_ns, RGB (H, W, 3))`` one after another."""
        data, channels = self.data[field], self.how[field].channels
        with telling_damage(f"{self.where}, '{field}'"):
            encoding = picture_encoding(data)
        for at, (time_ns, sample) in enumerate(zip(self.times[field].tolist(), samples(data), strict=True)):
            yield time_ns, frame_of(sample, encoding, channels, f"{self.where}, '{field}', sample {at}")

    def video(self, field: str) -> None:
        """None: no HDF5 layout holds videos."""


def described(data: h5py.Dataset) -> FieldInfo | None:
    """The dataset as a field; None for what is not imported."""
    count = len(data)
    encoding = picture_encoding(data)
    if encoding is not None:
        shape = frame_of(data[0], encoding, RGB, f"{data.file.filename}, '{data.name}'").shape
        return FieldInfo(IMAGE, shape, "uint8", encoding=encoding, samples=count)
    if data.dtype.kind in TEXTS and data.ndim == 1:
        return FieldInfo(TEXT, (), "text", samples=count)
    if data.dtype.kind not in NUMERIC or data.ndim > 2:
        return None
    return FieldInfo(SCALAR if data.ndim == 1 else VECTOR, data.shape[1:], str(data.dtype), samples=count)


def _belongs(name: str, data: h5py.Dataset, place: layouts.Place) -> bool:
    return data.shape[:1] == (place.length,) and not (place.layout == layouts.ALOHA and name == layouts.COMPRESS_LEN)


def _with_extremes(info: FieldInfo, data: h5py.Dataset) -> FieldInfo:
    if info.kind not in (SCALAR, VECTOR):
        return info
    values = data[:]
    low, high = (np.atleast_1d(end(axis=0)).astype(float).tolist() for end in (values.min, values.max))
    return replace(info, low=tuple(low), high=tuple(high))


def _said(info: FieldInfo) -> str:
    return f"{info.kind} of shape {info.shape}" + (f" in {info.encoding}" if info.encoding else "")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in SUFFIXES and not path.name.startswith(".")]


def _task(holder: h5py.Group) -> str | None:
    for name in TASK_NAMES:
        text = holder.attrs.get(name)
        item = holder.get(name) if text is None else None
        if item is not None and getattr(item, "shape", None) == ():
            text = item[()]
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        if isinstance(text, str) and text.strip():
            return text
    return None


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in attributes.items()}
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, str | bool | int | float) and len(str(value)) <= LONGEST
    }
