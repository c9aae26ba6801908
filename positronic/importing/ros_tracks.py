"""The numbers of a bag's topics, by field: a topic, with a joint's quantity behind a dot (``/joint_states.position``).

Joints go by name: a message that lists them in another order is put into the field's. Publishers with other joints may
share a topic; each has a field of its own, ``/joint_states.position@<its first joint>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError, listing
from positronic.importing.clocks import HEADER, Times, require_increasing, without_repeats
from positronic.importing.ros_bag import Bag, Message
from positronic.importing.ros_messages import NUMBERS, Numbers, stamp_ns

SHARED = "@"


class Shape(NamedTuple):
    """``names``: of a sample's numbers; None where the message has none. ``size``: None for a scalar."""

    names: tuple[str, ...] | None
    size: int | None


@dataclass
class Track:
    """A field's samples as they were recorded. ``type``: of its messages."""

    type: str
    shape: Shape
    header_ns: list[int | None] = field(default_factory=list)
    log_ns: list[int] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)

    def add(self, message: Message, values: np.ndarray) -> None:
        self.header_ns.append(stamp_ns(message.content))
        self.log_ns.append(message.log_ns)
        self.rows.append(values)

    def samples(self, clock: str, where: str) -> tuple[Times, NDArray]:
        """Stamps that increase, and values. A sample that was recorded twice counts once.

        Raises PositronicError for stamps that go back, are used twice with different values, or are missing.
        """
        times = chosen_times(self.header_ns, self.log_ns, clock, where)
        values = np.stack(self.rows)
        flat = values.reshape(len(values), -1)
        same = np.concatenate([[False], (flat[1:] == flat[:-1]).all(axis=1)])
        kept = without_repeats(times, same)
        require_increasing(times[kept], where, clock)
        return times[kept], values[kept]


def chosen_times(header_ns: list[int | None], log_ns: list[int], clock: str, where: str, at: int = 0) -> Times:
    """The stamps of one clock. Raises PositronicError when a message lacks a header's. ``at``: number of the first."""
    if clock == HEADER and None in header_ns:
        raise PositronicError(
            f"{where}: message {at + header_ns.index(None)} has no stamp in its header. Say 'clock: log' in the "
            "mapping to take the moments of recording."
        )
    return np.array(header_ns if clock == HEADER else log_ns, np.int64)


class Tracks:
    """The fields of a bag. ``known``: those of the dataset's first bag, whose order of joints counts; None: this is it.

    ``faults``: topic -> why it cannot be imported, of the first bag, where nobody has asked for the topic yet.
    """

    def __init__(self, where: str, known: Mapping[str, Shape] | None = None) -> None:
        self.where = where
        self.faults: dict[str, str] = {}
        self._known = {(base_of(name), _identity(shape)): shape for name, shape in (known or {}).items()}
        self._is_first = known is None
        self._tracks: dict[tuple[str, frozenset[str] | None], Track] = {}

    def read(self, bag: Bag) -> dict[str, Track]:
        """Name of the field -> its samples. Raises PositronicError for joints or a size that no field of the topic has,
        and for a message that is no sample."""
        for message in bag.messages(self._topics(bag)):
            try:
                for part in NUMBERS[message.type](message.content):
                    self._add(message, part)
            except PositronicError as error:
                if not self._is_first:
                    raise PositronicError(f"{self.where}, topic '{message.topic}': {error}") from None
                self.faults.setdefault(message.topic, str(error))
        return {name: track for name, track in self._named() if topic_of(name) not in self.faults}

    def _topics(self, bag: Bag) -> list[str]:
        known = {topic_of(base) for base, _ in self._known}
        return [topic for topic, kind in bag.types.items() if kind in NUMBERS and (self._is_first or topic in known)]

    def _add(self, message: Message, part: Numbers) -> None:
        base, shape = message.topic + part.suffix, _shape(part)
        key = (base, _identity(shape))
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = Track(message.type, self._accepted(key, shape))
        if track.shape.size != shape.size:
            raise PositronicError(f"a sample of {shape.size} numbers; those before have {track.shape.size}.")
        track.add(message, _in_order(part, track.shape.names))

    def _accepted(self, key: tuple[str, frozenset[str] | None], shape: Shape) -> Shape:
        base, names = key
        if key in self._known:
            return self._known[key]
        others = [shape for (other, _), shape in self._known.items() if other == base]
        if others and (names is not None or others[0] != shape):
            expected = "; or ".join(listing(known.names or [str(known.size)]) for known in others)
            raise PositronicError(
                f"joints {listing(names or [str(shape.size)])}; expected, as in the first bag, {expected}."
            )
        for other, seen in self._tracks:
            if other == base and names and seen and names & seen:
                raise PositronicError(
                    f"messages with the joints {listing(names)} and others with {listing(seen)}: two publishers of one "
                    f"joint, {listing(names & seen)}."
                )
        return shape

    def _named(self) -> Iterable[tuple[str, Track]]:
        bases = [base for base, _ in (self._known or self._tracks)]
        for (base, _), track in self._tracks.items():
            shared = bases.count(base) > 1
            yield (f"{base}{SHARED}{track.shape.names[0]}" if shared and track.shape.names else base), track


def base_of(name: str) -> str:
    """The field's name without the joint that tells it from others of its topic."""
    return name.partition(SHARED)[0]


def topic_of(name: str) -> str:
    """The topic of a field."""
    return base_of(name).partition(".")[0]


def _shape(part: Numbers) -> Shape:
    return Shape(part.names, len(part.values) if part.values.ndim else None)


def _identity(shape: Shape) -> frozenset[str] | None:
    return None if shape.names is None else frozenset(shape.names)


def _in_order(part: Numbers, names: tuple[str, ...] | None) -> np.ndarray:
    if names is None or part.names == names:
        return part.values
    at = {name: index for index, name in enumerate(part.names)}
    return part.values[[at[name] for name in names]]
