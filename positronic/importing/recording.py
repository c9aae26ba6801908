"""One episode of a source becomes one raw episode, by a mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError
from positronic.importing import quantities as q
from positronic.importing.clocks import silences
from positronic.importing.conversion import canonical
from positronic.importing.mapping import RGB, ImportMapping, SignalMapping
from positronic.importing.quantities import Quantity
from positronic.importing.source import FieldInfo, How, Reading, Samples, SourceEpisode, Times
from positronic.raw.writer import DatasetWriter, EpisodeWriter

SOURCE, NAME, STATICS = "source", "episode", "statics"  # of the static keys.IMPORTED


@dataclass(frozen=True)
class Plan:
    """What every episode is imported with. ``fields``: of the source. It pickles."""

    mapping: ImportMapping
    embodiment: Embodiment
    fields: dict[str, FieldInfo]

    def how(self) -> dict[str, How]:
        """Every field that is read -> how."""
        mapping = self.mapping
        found = {field: _how(signal, mapping) for signal in mapping.signals.values() for field in signal.fields}
        return found if mapping.task_from is None else {mapping.task_from: How(fps=mapping.fps)} | found


class Recorded(NamedTuple):
    """An episode that was imported. ``samples``: of all its signals, frames too. ``size``: bytes that were written.
    ``copied``: cameras whose video was copied as it was. ``remarks``: what a person should know of it."""

    name: str
    episode_id: int
    samples: int
    size: int
    copied: tuple[str, ...]
    remarks: tuple[str, ...]


class Refused(NamedTuple):
    """An episode that cannot be imported."""

    name: str
    reason: str


def record(writer: DatasetWriter, episode: SourceEpisode, episode_id: int, plan: Plan) -> Recorded:
    """Write the episode, completely or not at all. Raises PositronicError for what cannot be imported."""
    with episode.open(plan.how()) as reading, writer.new_episode(episode_id) as out:
        pending = _Copy(reading, out, plan, episode.name)
        for key, signal in plan.mapping.signals.items():
            pending.add(key, signal)
        for key, value in _statics(episode, reading, plan).items():
            out.set_static(key, value)
    size = sum(path.stat().st_size for path in out.path.iterdir())
    return Recorded(episode.name, episode_id, pending.samples, size, tuple(pending.copied), tuple(pending.remarks()))


class _Copy:
    """An episode on its way. ``times``: of each signal that was written."""

    def __init__(self, reading: Reading, out: EpisodeWriter, plan: Plan, name: str) -> None:
        self._reading, self._out, self._plan, self._name = reading, out, plan, name
        self._times: dict[str, Times] = {}
        self._clipped: dict[str, float] = {}
        self.copied: list[str] = []

    @property
    def samples(self) -> int:
        return sum(map(len, self._times.values()))

    def add(self, key: str, signal: SignalMapping) -> None:
        quantity = q.quantity_of(key, self._plan.embodiment)
        if quantity.kind == q.CAMERA:
            times = self._add_camera(key, signal.fields[0])
        else:
            times = self._add_numbers(key, signal, quantity)
        if not len(times):
            raise PositronicError(f"{self._name}: '{signal.fields[0]}', which becomes {key}, has no sample.")
        self._times[key] = times

    def remarks(self) -> Iterator[str]:
        """Silences, and grippers outside of their range."""
        start = min(times[0] for times in self._times.values())
        end = max(times[-1] for times in self._times.values())
        for key, times in self._times.items():
            for begin, until in silences(times, int(start), int(end)):
                yield f"{key}: nothing from {begin:.1f} to {until:.1f} s"
        for key, share in self._clipped.items():
            yield f"{key}: {share:.1%} of the samples outside of open and closed, set to the nearer"

    def _add_camera(self, key: str, field: str) -> Times:
        span = self._reading.video(field)
        if span is not None and self._out.copy_video(key, span.path, span.first, span.times_ns.tolist()):
            self.copied.append(key)
            return span.times_ns
        times = []
        for time_ns, frame in self._reading.frames(field):
            self._out.append(key, frame, time_ns)
            times.append(time_ns)
        return np.array(times, np.int64)

    def _add_numbers(self, key: str, signal: SignalMapping, quantity: Quantity) -> Times:
        times, numbers = canonical_samples(self._reading, key, signal, self._plan, self._name)
        if quantity.kind == q.GRIPPER:
            outside = (numbers < 0) | (numbers > 1)
            if outside.any():
                self._clipped[key] = float(outside.mean())
            numbers = np.clip(numbers, 0.0, 1.0)
        for time_ns, sample in zip(times.tolist(), numbers, strict=True):
            self._out.append(key, sample, time_ns)
        return times


def canonical_samples(
    reading: Reading, key: str, signal: SignalMapping, plan: Plan, name: str
) -> tuple[Times, NDArray[Any]]:
    """Stamps and values of a raw signal of numbers, converted: (N, D), of a gripper (N,) not yet cut to 0..1. ``name``:
    of the episode. Raises PositronicError for what cannot be converted."""
    times, values = _gathered(reading, signal, plan.fields, name)
    quantity = q.quantity_of(key, plan.embodiment)
    return times, canonical(signal, quantity, values, f"{name}, {key}") if len(values) else values


def task_of(episode: SourceEpisode, reading: Reading, mapping: ImportMapping) -> str | None:
    """The episode's instruction: the mapping's for all, that of the field which it names, or the episode's own."""
    return mapping.task or _told(reading, mapping.task_from) or episode.task


def _how(signal: SignalMapping, mapping: ImportMapping) -> How:
    return How(clock=signal.clock or "", fps=mapping.fps, channels=signal.channels or RGB)


def _gathered(
    reading: Reading, signal: SignalMapping, fields: dict[str, FieldInfo], name: str
) -> tuple[Times, NDArray[Any]]:
    """Stamps and the chosen numbers (N, D) of the signal's fields, which must have the same stamps."""
    read = {field: reading.read(field) for field in signal.fields}
    first: Samples = read[signal.fields[0]]
    for field, samples in read.items():
        if not np.array_equal(samples.times_ns, first.times_ns):
            raise PositronicError(
                f"{name}: '{field}' has other stamps than '{signal.fields[0]}'. Only fields of the same stamps become "
                "one signal; map them to signals of their own."
            )
    columns = [np.atleast_2d(np.asarray(read[n.field].values).T)[n.place] for n in q.chosen(signal, fields)]
    return first.times_ns, np.stack(columns, axis=1)


def _statics(episode: SourceEpisode, reading: Reading, plan: Plan) -> dict[str, Any]:
    mapping = plan.mapping
    task = task_of(episode, reading, mapping)
    said = {SOURCE: mapping.source, NAME: episode.name, STATICS: dict(episode.statics)}
    known = {keys.EMBODIMENT: plan.embodiment.to_dict(), keys.IMPORTED: said}
    return known | ({keys.TASK: task} if task else {})


def _told(reading: Reading, field: str | None) -> str | None:
    """The first text of a field that is not empty."""
    texts = [] if field is None else reading.read(field).values
    return next((str(text).strip() for text in texts if str(text).strip()), None)
