"""LeRobot datasets on disk, formats v2.0, v2.1 and v3.0, read without LeRobot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.importing.clocks import grid
from positronic.importing.lerobot_baked import Baked, read_baked
from positronic.importing.lerobot_beliefs import with_beliefs
from positronic.importing.lerobot_meta import Info, Place, read_info, read_places, reading
from positronic.importing.lerobot_rows import Rows, open_rows
from positronic.importing.lerobot_video import find_frames, require_file
from positronic.importing.mapping import RGB, ImportMapping
from positronic.importing.pictures import decode, in_rgb, is_encoded
from positronic.importing.source import IMAGE, SCALAR, TEXT, VECTOR, FieldInfo, How, Samples, Times, VideoSpan

EXTREMES = ("min", "max")


class LerobotSource:
    """The dataset at ``path``, the folder that holds ``meta/``. Raises PositronicError when it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = read_info(path)

    def episodes(self) -> list[LerobotEpisode]:
        """In the order of their numbers. Only ``meta/`` is read: what is wrong with an episode's own files is found
        when it is read."""
        return [LerobotEpisode(f"episode_{place.index:06d}", place, self.info) for place in self._places]

    def fields(self) -> dict[str, FieldInfo]:
        """The columns that hold numbers, texts or pictures in colour, without those that number the rows."""
        return dict(self._fields)

    def stated(self, embodiment: Embodiment | None) -> ImportMapping | None:
        """Of a dataset that was baked here; None of others: LeRobot's format has names, and no conventions."""
        robot = embodiment or self.embodiment
        return None if self._baked is None or robot is None else self._baked.mapping("lerobot", self.info, robot)

    @property
    def embodiment(self) -> Embodiment | None:
        """The robot, as a dataset that was baked here states it."""
        return self._baked and self._baked.embodiment

    @property
    def unsupported(self) -> dict[str, str]:
        """The other columns, and why they are no fields."""
        return {name: feature.why_not for name, feature in self.info.features.items() if not feature.kind}

    @cached_property
    def _baked(self) -> Baked | None:
        return read_baked(self.path)

    @cached_property
    def _places(self) -> list[Place]:
        return read_places(self.info)

    @cached_property
    def _fields(self) -> dict[str, FieldInfo]:
        count = self._places[0].length if self._places else None
        found = {
            name: FieldInfo(
                kind=feature.kind,
                shape=feature.sample_shape,
                dtype=feature.dtype,
                names=feature.names,
                rate_hz=self.info.fps,
                encoding=feature.encoding,
                samples=count,
            )
            for name, feature in self.info.features.items()
            if feature.kind
        }
        found = self._looked_into(found) if self._places else found
        return with_beliefs(found)

    def _looked_into(self, fields: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
        """With extremes, of the whole dataset where it states them, else of the first episode, and with the encoding of
        pictures."""
        found, stats = dict(fields), self._stated_extremes()
        with open_rows(self.info, self._places[0]) as rows:
            for name, info in fields.items():
                if info.kind in (VECTOR, SCALAR):
                    low, high = stats.get(name) or _extremes(rows.numbers(name))
                    found[name] = replace(info, low=low, high=high)
                elif info.kind == IMAGE and not self.info.features[name].is_video:
                    found[name] = replace(info, encoding=is_encoded(next(rows.pictures(name), b"")) or "")
        return found

    def _stated_extremes(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        path = self.path / keys.STATS_FILE
        if not path.is_file():
            return {}
        with reading(path):
            said = json.loads(path.read_text(encoding="utf-8"))
            features = {name: feature for name, feature in self.info.features.items() if name in said}
            ends = {name: tuple(_numbers(said[name][end]) for end in EXTREMES) for name in features}
            sizes = {name: int(np.prod(feature.shape, dtype=int)) for name, feature in features.items()}
            return {name: each for name, each in ends.items() if {len(end) for end in each} == {sizes[name]}}


@dataclass(frozen=True)
class LerobotEpisode:
    """An episode of a dataset. ``place``: where it is."""

    name: str
    place: Place
    info: Info = field(repr=False)

    @property
    def task(self) -> str | None:
        """Its instruction. Raises PositronicError when there are several: a raw episode has one."""
        told = [task for task in self.place.tasks if task.strip()]
        if len(told) > 1:
            raise PositronicError(
                f"{self.name}: it has the tasks {listing(told)}; a raw episode has one. Type task=<instruction> for "
                "all episodes, or on_bad_episode=skip."
            )
        return told[0] if told else None

    @property
    def statics(self) -> dict[str, Any]:
        """The robot's type, and what the list of episodes says of it besides its place: JSON values."""
        robot = {"robot_type": self.info.robot_type} if self.info.robot_type else {}
        return robot | {name: value for name, value in self.place.more.items() if _is_json(value)}

    @contextmanager
    def open(self, fields: Mapping[str, How]) -> Iterator[LerobotReading]:
        """Open it for reading these fields. Raises PositronicError for one that is missing, and for rows that
        contradict ``meta/``."""
        with open_rows(self.info, self.place) as rows:
            for name in fields:
                self._require(name, rows)
            yield LerobotReading(self.info, self.place, rows, dict(fields))

    def _require(self, name: str, rows: Rows) -> None:
        features = self.info.features
        if name not in features or not features[name].kind:
            there = [each for each, feature in features.items() if feature.kind]
            raise PositronicError(
                f"{self.info.path}: no field '{name}'.{did_you_mean(name, there)} Present: {listing(there)}."
            )
        if features[name].is_video:
            require_file(self.info, self.place, name)
        else:
            rows.require(name)


@dataclass(frozen=True)
class LerobotReading:
    """An open episode."""

    info: Info
    place: Place
    rows: Rows
    how: Mapping[str, How]

    def read(self, field: str) -> Samples:
        """All samples of a vector, scalar or text."""
        is_text = self.info.features[field].kind == TEXT
        return Samples(self._times(), self.rows.texts(field) if is_text else self.rows.numbers(field))

    def frames(self, field: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """``(time_ns, RGB (H, W, 3))`` one after another."""
        is_video = self.info.features[field].is_video
        yield from zip(self._times().tolist(), self._shown(field) if is_video else self._decoded(field), strict=True)

    def video(self, field: str) -> VideoSpan | None:
        """Where its frames lie; None for pictures in parquet, and for colours that are to be swapped."""
        if not self.info.features[field].is_video or self.how[field].channels != RGB:
            return None
        found = find_frames(self.info, self.place, field)
        return VideoSpan(found.path, found.first, self._times())

    def _shown(self, field: str) -> Iterator[NDArray[np.uint8]]:
        for picture in find_frames(self.info, self.place, field).pictures():
            yield in_rgb(picture, self.how[field].channels)

    def _decoded(self, field: str) -> Iterator[NDArray[np.uint8]]:
        expected = self.info.features[field].size_hw
        for at, data in enumerate(self.rows.pictures(field)):
            where = f"{self.rows.where}, '{field}', frame {at}"
            frame = decode(data, where, self.how[field].channels)
            if frame.shape[:2] != expected:
                raise PositronicError(f"{where}: {frame.shape[:2]} pixels; {self.info.path} says {expected}.")
            yield frame

    def _times(self) -> Times:
        return grid(self.place.length, self.info.fps)


def _extremes(values: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    low, high = (np.atleast_1d(end(axis=0)).astype(float).tolist() for end in (values.min, values.max))
    return tuple(low), tuple(high)


def _numbers(said: Any) -> tuple[float, ...]:
    return tuple(np.asarray(said, float).reshape(-1).tolist())


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
