"""ROS 2 bags: one is an episode. Topics are fields, each with its own clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.importing.clocks import require_increasing
from positronic.importing.mapping import ImportMapping
from positronic.importing.names import natural
from positronic.importing.pictures import in_rgb
from positronic.importing.ros_bag import SUFFIXES, Bag, is_bag, open_bag
from positronic.importing.ros_fields import RosField, pictures_of, tracks_of
from positronic.importing.ros_messages import NUMBERS, PICTURES, picture, stamp_ns
from positronic.importing.ros_tracks import Track, Tracks, chosen_times, topic_of
from positronic.importing.source import FieldInfo, How, Samples


class McapSource:
    """The bag, or the folder of bags, at ``path``. Raises PositronicError when there is no bag."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bags = [path] if is_bag(path) else _bags(path)
        if not self.bags:
            raise PositronicError(f"{path}: no ROS 2 bag (a folder with metadata.yaml, {', '.join(SUFFIXES)}) here.")

    def episodes(self) -> list[McapEpisode]:
        """In the order of their names. Only the first bag is opened: its fields are those of the dataset."""
        return [McapEpisode(bag.name, bag, self._fields) for bag in self.bags]

    def fields(self) -> dict[str, FieldInfo]:
        """The topics of the first bag whose messages hold numbers, texts or pictures."""
        return {name: each.info for name, each in self._fields.items()}

    def stated(self, embodiment: Embodiment | None) -> ImportMapping | None:
        """None: no bag states which of its topics are the robot's."""
        return None

    @property
    def unsupported(self) -> dict[str, str]:
        """The other topics of the first bag, and why they are no fields."""
        return dict(self._scan[1])

    @property
    def _fields(self) -> dict[str, RosField]:
        return self._scan[0]

    @cached_property
    def _scan(self) -> tuple[dict[str, RosField], dict[str, str]]:
        with open_bag(self.bags[0]) as bag:
            where = str(self.bags[0])
            fields, faults = tracks_of(bag, where)
            pictures, others = pictures_of(bag, where)
            fields = dict(sorted((fields | pictures).items()))
            there = {topic_of(name) for name in fields}
            reasons = {topic: _reason(bag, topic) for topic in sorted(bag.types.keys() - there)}
            return fields, reasons | faults | others


def _bags(folder: Path) -> list[Path]:
    return sorted(filter(is_bag, folder.iterdir()), key=natural) if folder.is_dir() else []


def _reason(bag: Bag, topic: str) -> str:
    return f"messages of {bag.types[topic]} are not imported" if bag.counts[topic] else "it holds no message"


@dataclass(frozen=True)
class McapEpisode:
    """A bag. ``expected``: the fields of the first bag, whose joints in whose order each bag must hold."""

    name: str
    path: Path
    expected: Mapping[str, RosField] = field(repr=False)

    @property
    def task(self) -> str | None:
        """None: no field of a bag is meant for it."""
        return None

    @property
    def statics(self) -> Mapping[str, Any]:
        """None."""
        return {}

    @contextmanager
    def open(self, fields: Mapping[str, How]) -> Iterator[McapReading]:
        """Open it for reading these fields. Raises PositronicError for a topic that is missing or has another type."""
        with open_bag(self.path) as bag:
            for name in fields:
                self._require(name, bag)
        yield McapReading(self.path, self.expected, dict(fields))

    def _require(self, name: str, bag: Bag) -> None:
        topic = topic_of(name)
        kind = bag.types.get(topic)
        if kind is None:
            hint = did_you_mean(topic, bag.types)
            raise PositronicError(f"{self.path} has no topic '{topic}'.{hint} Present: {listing(bag.types)}.")
        if name not in self.expected:
            why = f"one of {kind}, which is not imported" if kind not in NUMBERS | PICTURES else "no such field"
            raise PositronicError(f"{self.path}, '{name}': {why}. Fields: {listing(self.expected)}.")
        if kind != self.expected[name].type:
            raise PositronicError(f"{self.path}, '{name}': {kind}; in the first bag {self.expected[name].type}.")


class McapReading:
    """An open bag. Numbers of all fields are read in one go, when the first is asked for.

    ``expected``: all fields of the dataset, as publishers with other joints may share a topic that is read.
    """

    def __init__(self, path: Path, expected: Mapping[str, RosField], how: Mapping[str, How]) -> None:
        self._path = path
        self._expected = expected
        self._how = dict(how)

    @cached_property
    def _tracks(self) -> dict[str, Track]:
        topics = {topic_of(name) for name in self._how}
        known = {name: each.shape for name, each in self._expected.items() if each.shape and topic_of(name) in topics}
        with open_bag(self._path) as bag:
            return Tracks(str(self._path), known).read(bag)

    def read(self, field: str) -> Samples:
        """All samples of a vector, scalar or text; joints in the order of the first bag."""
        if field not in self._tracks:
            raise PositronicError(f"{self._path}, '{field}': the bag has no such message.")
        times, values = self._tracks[field].samples(self._clock(field), f"{self._path}, '{field}'")
        return Samples(times, values.tolist() if values.dtype.kind == "U" else values)

    def frames(self, field: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """``(time_ns, RGB (H, W, 3))`` one after another. A frame that was recorded twice comes once."""
        where, clock = f"{self._path}, '{field}'", self._clock(field)
        last: tuple[int, bytes] | None = None
        with open_bag(self._path) as bag:
            for at, message in enumerate(bag.messages([field])):
                stamps = [stamp_ns(message.content)], [message.log_ns]
                now = chosen_times(*stamps, clock, where, at).item(), bytes(message.content.data)
                if now == last:
                    continue
                if last is not None:
                    require_increasing(np.array([last[0], now[0]], np.int64), where, clock, at)
                last = now
                yield now[0], in_rgb(picture(message, f"{where}, message {at}"), self._how[field].channels)

    def video(self, field: str) -> None:
        """None: bags hold pictures."""

    def _clock(self, field: str) -> str:
        return self._how[field].clock or self._expected[field].clock
