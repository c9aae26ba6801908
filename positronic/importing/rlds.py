"""RLDS datasets: records of TensorFlow Datasets in which an Example is an episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.importing import rlds_features as rlds
from positronic.importing.clocks import grid
from positronic.importing.mapping import RGB, ImportMapping
from positronic.importing.pictures import decode, is_encoded
from positronic.importing.rlds_features import STEPS, Leaf, read_features
from positronic.importing.source import IMAGE, SCALAR, TEXT, VECTOR, Belief, FieldInfo, How, Samples, Times
from positronic.importing.tfrecords import Feature, read_example, spans

RECORDS = "*.tfrecord-*"
INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "observation/natural_language_instruction")
IN_RGB = Belief(RGB, "TensorFlow Datasets encodes RGB", known=True)


class RldsSource:
    """The dataset at ``path``: the folder of a version, or one that holds a single version. Raises PositronicError when
    there is no RLDS dataset."""

    def __init__(self, path: Path) -> None:
        self.path = _version(path)
        self.steps, self.episode = read_features(self.path)
        self.files = sorted(self.path.glob(RECORDS))
        if not self.files:
            raise PositronicError(f"{self.path}: no records ({RECORDS}) here. Other file formats of TFDS are not read.")

    def episodes(self) -> list[RldsEpisode]:
        """Of every split, in the order of the files' names. Only the lengths of records are read."""
        return [
            RldsEpisode(f"{file.name}:{number}", file, span, self.steps, self.episode)
            for file in self.files
            for number, span in enumerate(spans(file))
        ]

    def fields(self) -> dict[str, FieldInfo]:
        """The features of a step that hold numbers, texts or pictures, with the values of the first episode."""
        known = {name: leaf for name, leaf in sorted(self.steps.items()) if _kind(leaf)}
        record = Record(self.files[0], spans(self.files[0])[0], self.steps)
        return {name: _described(record, name, leaf) for name, leaf in known.items()}

    def stated(self, embodiment: Embodiment | None) -> ImportMapping | None:
        """None: RLDS states no conventions."""
        return None


class Record:
    """A parsed episode."""

    def __init__(self, path: Path, span: tuple[int, int], steps: Mapping[str, Leaf]) -> None:
        self.where = f"{path}, record at byte {span[0]}"
        self._steps = steps
        self.example = read_example(path, span)
        counts = Counter(leaf.count(self.example.get(f"{STEPS}/{name}", [])) for name, leaf in steps.items())
        self.length = counts.most_common(1)[0][0]  # that of most features
        if not self.length:
            raise PositronicError(f"{self.where}: an episode without steps.")

    def values(self, name: str) -> Feature:
        """The feature's list. Raises PositronicError for a name that is not there, and for a list of another length."""
        if name not in self._steps or not _kind(self._steps[name]):
            there = [each for each, leaf in self._steps.items() if _kind(leaf)]
            raise PositronicError(
                f"{self.where}: no field '{name}'.{did_you_mean(name, there)} Present: {listing(there)}."
            )
        leaf, values = self._steps[name], self.example.get(f"{STEPS}/{name}", [])
        if leaf.count(values) != self.length or leaf.is_bytes != isinstance(values, list):
            raise PositronicError(
                f"{self.where}: {len(values)} values in '{name}' of {leaf.shape or 1} a step are none of an episode of "
                f"{self.length:g} steps. The record and {rlds.FEATURES_FILE} disagree."
            )
        return values


@dataclass(frozen=True)
class RldsEpisode:
    """One record. ``steps``, ``episode``: what the dataset's features are."""

    name: str
    path: Path
    span: tuple[int, int]
    steps: Mapping[str, Leaf] = field(repr=False)
    episode: Mapping[str, Leaf] = field(repr=False)

    @property
    def task(self) -> str | None:
        """The instruction of the first step."""
        example = read_example(self.path, self.span)
        texts = (example.get(f"{STEPS}/{name}") for name in INSTRUCTIONS)
        return next(
            (text for values in texts if isinstance(values, list) and values and (text := _text(values[0]))), None
        )

    @property
    def statics(self) -> dict[str, Any]:
        """What the episode's metadata hold: texts and single numbers."""
        example = read_example(self.path, self.span)
        there = {name: example[name] for name in self.episode if len(example.get(name, []))}
        values = {name: _plain(values, self.episode[name]) for name, values in there.items()}
        return {name: value for name, value in values.items() if value is not None}

    @contextmanager
    def open(self, fields: Mapping[str, How]) -> Iterator[RldsReading]:
        """Parse it. Raises PositronicError for a field that is missing or of another length, and without a rate."""
        record = Record(self.path, self.span, self.steps)
        for name, how in fields.items():
            record.values(name)
            if not how.fps:
                raise PositronicError(
                    f"{self.path}: RLDS does not say how many steps there are in a second: fps=<rate>."
                )
        yield RldsReading(record, self.steps, dict(fields))


@dataclass(frozen=True)
class RldsReading:
    """An open episode."""

    record: Record
    steps: Mapping[str, Leaf]
    how: Mapping[str, How]

    def read(self, field: str) -> Samples:
        """All samples of a vector, scalar or text."""
        leaf, values = self.steps[field], self.record.values(field)
        texts = [_text(value) for value in values] if leaf.kind == rlds.TEXT else leaf.numbers(values)
        return Samples(self._times(field), texts)

    def frames(self, field: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """``(time_ns, RGB (H, W, 3))`` one after another."""
        pairs = zip(self._times(field).tolist(), self.record.values(field), strict=True)
        for at, (time_ns, data) in enumerate(pairs):
            yield time_ns, decode(data, f"{self.record.where}, '{field}', step {at}", self.how[field].channels)

    def video(self, field: str) -> None:
        """None: RLDS holds pictures."""

    def _times(self, field: str) -> Times:
        return grid(int(self.record.length), self.how[field].fps)


def _kind(leaf: Leaf) -> str:
    """Of a field; empty for what is not imported."""
    if leaf.kind == rlds.TENSOR:
        return {0: SCALAR, 1: VECTOR}.get(len(leaf.shape), "")
    return {rlds.IMAGE: IMAGE, rlds.TEXT: TEXT}.get(leaf.kind, "")


def _described(record: Record, name: str, leaf: Leaf) -> FieldInfo:
    values, kind = record.values(name), _kind(leaf)
    info = FieldInfo(kind, leaf.shape, leaf.dtype, samples=int(record.length), encoding=leaf.encoding)
    if kind == IMAGE:
        frame = decode(values[0], f"{record.where}, '{name}'")
        return replace(info, shape=frame.shape, encoding=is_encoded(values[0]) or "", believed={"channels": IN_RGB})
    if kind == TEXT:
        return info
    numbers = leaf.numbers(values)
    low, high = (np.atleast_1d(end(axis=0)).astype(float).tolist() for end in (numbers.min, numbers.max))
    return replace(info, low=tuple(low), high=tuple(high))


def _version(path: Path) -> Path:
    if (path / rlds.FEATURES_FILE).is_file() or not path.is_dir():
        return path
    versions = sorted(file.parent for file in path.rglob(rlds.FEATURES_FILE))
    if len(versions) > 1:
        raise PositronicError(f"{path}: several datasets, {listing(map(str, versions))}. Type the path of one.")
    return versions[0] if versions else path


def _text(value: bytes) -> str:
    return value.decode(errors="replace").strip()


def _plain(values: Feature, leaf: Leaf) -> Any:
    if leaf.kind == rlds.TEXT:
        return _text(values[0])
    return leaf.numbers(values).reshape(-1)[0].item() if leaf.kind == rlds.TENSOR and not leaf.shape else None
