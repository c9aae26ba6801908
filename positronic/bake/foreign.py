"""A LeRobot dataset from elsewhere, opened for training as if it had been baked: no copy is made.

Numbers are converted by a mapping (``positronic.importing``) and go through the codec, row by row at the dataset's own
rate. Pictures stay where they are, and are letterboxed when they are decoded. What comes out is a ``BakedDataset`` in
our conventions. So neither a policy nor a server can tell it from one that was baked, and a robot is told rad and 0..1
whatever the dataset holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic import keys
from positronic.bake import statistics
from positronic.bake.findings import Breaches, breaches
from positronic.bake.frame_source import DecodedFrames, FrameFile
from positronic.bake.manifest import Manifest, episodes_digest
from positronic.bake.orientation import movement_of, two_numbered, with_references_of
from positronic.bake.places import VideoSpan
from positronic.bake.reader import BakedDataset, Stats
from positronic.codecs.build import Recipe
from positronic.codecs.images import letterbox
from positronic.errors import PositronicError, listing
from positronic.importing.lerobot import LerobotEpisode, LerobotReading, LerobotSource
from positronic.importing.lerobot_meta import Info, reading
from positronic.importing.lerobot_rows import PICTURES_AT_ONCE, picture_bytes
from positronic.importing.lerobot_video import find_frames, shown_of
from positronic.importing.pictures import decode, in_rgb
from positronic.importing.quantities import GRIPPER, quantity_of
from positronic.importing.recording import Plan, canonical_samples, task_of
from positronic.raw.decoder import Decoder

SAMPLED_FRAMES = 256  # of a camera, for its statistics
Samples = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Opened:
    """``findings``: what looks wrong with the numbers, one sentence each."""

    dataset: BakedDataset
    findings: list[str]


@dataclass(frozen=True)
class _Episode:
    name: str
    task: str
    samples: Samples
    spans: dict[str, VideoSpan]
    length: int


def require_signals(recipe: Recipe, plan: Plan) -> None:
    """Raise PositronicError when the codec needs a signal that the mapping does not have."""
    missing = [name for name in recipe.codec.signals if name not in plan.mapping.signals]
    if missing:
        raise PositronicError(
            f"codec={recipe.codec.name} needs {listing(missing)}, and the mapping has only "
            f"{listing(plan.mapping.signals)}. Map them, or type another codec=, or codec.images=[<camera>, ...]."
        )


def open_foreign(
    source: LerobotSource, plan: Plan, recipe: Recipe, vendor: str, advance: Callable[[], None] = lambda: None
) -> Opened:
    """Read the rows of every episode, and look where its pictures are.

    The dataset's recipe is ``recipe`` with reference rotations. ``advance`` is called after each episode. Raises
    PositronicError for what the codec needs and the mapping lacks, and for an episode that cannot be read.
    """
    require_signals(recipe, plan)
    needed = replace(plan.mapping, signals={name: plan.mapping.signals[name] for name in recipe.codec.signals})
    plan, episodes, found = replace(plan, mapping=needed), [], Breaches()
    for number, episode in enumerate(source.episodes()):
        episodes.append(_read(episode, plan, recipe))
        found.add(number, breaches(recipe.codec, episodes[-1].samples))
        advance()
    turned = _with_references(recipe, episodes)
    dataset = _dataset(source.info, plan, turned, vendor, episodes)
    return Opened(replace(dataset, stats=stats_of(dataset)), found.lines(len(dataset)))


def stats_of(dataset: BakedDataset) -> Stats:
    """Of the vectors exactly; of pictures from ``SAMPLED_FRAMES`` of them, spread evenly."""
    vectors = {name: statistics.of_blocks(lambda rows=rows: iter([rows])) for name, rows in dataset.vectors.items()}
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLED_FRAMES)).round().astype(np.int64))
    frames = DecodedFrames(dataset)
    return vectors | {name: _of_pictures(frames, name, rows) for name in dataset.image_shapes}


def _of_pictures(frames: DecodedFrames, name: str, rows: NDArray[np.int64]) -> dict[str, NDArray]:
    counts = np.zeros((3, len(statistics.LEVELS)), np.int64)
    for row in rows:
        picture = frames.get(name, row[None])[0]
        counts += [np.bincount(picture[..., channel].ravel(), minlength=counts.shape[1]) for channel in range(3)]
    return statistics.of_histograms(counts, len(rows))


def _read(episode: LerobotEpisode, plan: Plan, recipe: Recipe) -> _Episode:
    with episode.open(plan.how()) as reading_of:
        samples = {name: _numbers(reading_of, name, plan, episode.name) for name in recipe.codec.vector_signals}
        fields = {camera.signal: plan.mapping.signals[camera.signal].fields[0] for camera in recipe.codec.images}
        spans = {signal: _span(reading_of, field) for signal, field in fields.items()}
        task = task_of(episode, reading_of, plan.mapping) or ""
    return _Episode(episode.name, task, samples, spans, episode.place.length)


def _numbers(reading_of: LerobotReading, name: str, plan: Plan, episode: str) -> NDArray[np.float64]:
    _, numbers = canonical_samples(reading_of, name, plan.mapping.signals[name], plan, episode)
    return np.clip(numbers, 0.0, 1.0) if quantity_of(name, plan.embodiment).kind == GRIPPER else numbers


def _span(reading_of: LerobotReading, field: str) -> VideoSpan:
    """Where the episode's pictures are: frames of a video, or rows of a parquet file."""
    info, place = reading_of.info, reading_of.place
    if info.features[field].is_video:
        found = find_frames(info, place, field)
        return VideoSpan(found.path, found.first, found.count)
    return VideoSpan(place.data, reading_of.rows.first, place.length)


def _with_references(recipe: Recipe, episodes: list[_Episode]) -> Recipe:
    parts = two_numbered(recipe)
    movements = (
        {name: movement_of(part.signed_quats(episode.samples[name])) for name, part in parts.items()}
        for episode in episodes
    )
    return with_references_of(recipe, movements) if parts else recipe


def _dataset(info: Info, plan: Plan, recipe: Recipe, vendor: str, episodes: list[_Episode]) -> BakedDataset:
    """Without statistics."""
    vectors = list(_vectors(recipe, episodes))
    lengths = np.array([episode.length for episode in episodes], np.int64)
    tasks = list(dict.fromkeys(episode.task for episode in episodes))
    columns = {column.name: column.sources[0].signal for column in recipe.modality.image_columns}
    fields = {name: plan.mapping.signals[signal].fields[0] for name, signal in columns.items()}
    sizes = {column.name: column.shape[:2] for column in recipe.modality.image_columns}
    return BakedDataset(
        root=info.root,
        recipe=recipe,
        manifest=_manifest(info, plan, recipe, vendor, episodes, vectors),
        vectors={name: np.concatenate([each[name] for each in vectors]) for name in vectors[0]},
        starts=lengths.cumsum() - lengths,
        ends=lengths.cumsum(),
        videos={name: tuple(each.spans[signal] for each in episodes) for name, signal in columns.items()},
        tasks=tuple(tasks),
        task_of=np.repeat([tasks.index(episode.task) for episode in episodes], lengths),
        stats={},
        numbers=np.arange(len(episodes)),
        uids=tuple(episode.name for episode in episodes),
        files=ForeignFiles(info, fields, sizes, {name: plan.how()[field].channels for name, field in fields.items()}),
    )


def _vectors(recipe: Recipe, episodes: list[_Episode]) -> Iterator[dict[str, NDArray[np.float32]]]:
    for episode in episodes:
        canonical = recipe.codec.encode_episode(episode.samples)
        yield {column.name: column.join(canonical) for column in recipe.modality.vector_columns}


def _manifest(
    info: Info,
    plan: Plan,
    recipe: Recipe,
    vendor: str,
    episodes: list[_Episode],
    vectors: list[dict[str, NDArray[np.float32]]],
) -> Manifest:
    """What checkpoints say of the dataset, the whole mapping too."""
    prints = [_fingerprint(episode, columns) for episode, columns in zip(episodes, vectors, strict=True)]
    rows = [(episode.name, mark, episode.length) for episode, mark in zip(episodes, prints, strict=True)]
    return Manifest(
        recipe=recipe.to_dict(),
        fps=recipe.codec.timing.fps,
        dataset_format=info.version,
        vendor=vendor,
        episodes=len(episodes),
        frames=sum(episode.length for episode in episodes),
        digest=episodes_digest(rows),
        signals=list(recipe.codec.signals),
        reader={"layout": keys.LAYOUT_LEROBOT, "mapping": json.loads(json.dumps(asdict(plan.mapping)))},
        task=plan.mapping.task,
        max_staleness_sec=None,
        video={},
        provenance={},
    )


def _fingerprint(episode: _Episode, columns: Mapping[str, NDArray[np.float32]]) -> str:
    """sha256 (hex) over the numbers, and over where pictures are in files of which size: they are not read."""
    digest = hashlib.sha256()
    for name, rows in columns.items():
        digest.update(f"{name}\0{rows.shape}\0".encode() + rows.tobytes())
    for name, span in episode.spans.items():
        digest.update(f"{name}\0{span.path.name}\0{span.path.stat().st_size}\0{span.first}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class ForeignFiles:
    """Opens the pictures of a column. ``fields``: column -> the dataset's own; ``sizes``: column -> (height, width);
    ``channels``: column -> in which order it holds colours."""

    info: Info
    fields: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    channels: Mapping[str, str]

    def __call__(self, column: str, path: Path) -> FrameFile:
        is_video = self.info.features[self.fields[column]].is_video
        pictures = _Video(path) if is_video else _Pictures(self.info, path, self.fields[column])
        return _Letterboxed(pictures, self.channels[column], *self.sizes[column])


class _Letterboxed:
    """Pictures of another file in the size that the policy sees."""

    def __init__(self, pictures: FrameFile, channels: str, height: int, width: int) -> None:
        self._pictures, self._channels, self._height, self._width = pictures, channels, height, width

    def frame(self, index: int) -> NDArray[np.uint8]:
        return next(self.frames(index, 1))

    def frames(self, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        for picture in self._pictures.frames(first, count):
            yield letterbox(in_rgb(picture, self._channels), self._height, self._width)

    def close(self) -> None:
        self._pictures.close()


class _Video(Decoder):
    """Frames by the number in which they are shown."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, shown_of(path))

    def frames(self, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        for number in range(first, first + count):
            yield self.rgb(number)


class _Pictures:
    """Pictures in a column of a parquet file, by row."""

    def __init__(self, info: Info, path: Path, field: str) -> None:
        self._info, self._path, self._field = info, path, field
        with reading(path):
            self._file = pq.ParquetFile(path)

    def frames(self, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        for row, picture in self._rows(first, first + count):
            where = f"{self._path}, row {row}"
            yield decode(picture_bytes(self._info, where, self._field, picture), f"{where}, '{self._field}'")

    def close(self) -> None:
        self._file.close()

    def _rows(self, first: int, stop: int) -> Iterator[tuple[int, Any]]:
        start = 0
        for group in range(self._file.num_row_groups):
            end = start + self._file.metadata.row_group(group).num_rows
            if end > first and start < stop:
                yield from self._of_group(group, start, first, stop)
            start = end

    def _of_group(self, group: int, start: int, first: int, stop: int) -> Iterator[tuple[int, Any]]:
        for batch in self._file.iter_batches(PICTURES_AT_ONCE, row_groups=[group], columns=[self._field]):
            low, high = max(first - start, 0), min(stop - start, len(batch))
            if low < high:
                column = batch.column(batch.schema.get_field_index(self._field))
                yield from enumerate(column.slice(low, high - low).to_pylist(), start + low)
            start += len(batch)
            if start >= stop:
                return
