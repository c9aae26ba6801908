"""One episode: sample, encode, count. Runs in a worker process, so imports stay light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.bake.config import VideoConfig
from positronic.bake.findings import Breach, breaches
from positronic.bake.frames import FramePreparer, Histogram, empty_histogram
from positronic.bake.freshness import require_arm_to_the_end, require_fresh_vectors, require_moving_picture
from positronic.bake.pieces import Piece, file_name
from positronic.bake.robot import require_robot
from positronic.bake.sampling import camera_indices, episode_grid, sample_vectors
from positronic.bake.video import piece_writer
from positronic.codecs.codec import Codec
from positronic.codecs.features import ImageFeature
from positronic.codecs.modality import Modality
from positronic.errors import PositronicError
from positronic.freshness import LOOKS_PER_SEC, StillRun, StillWatch, look_at
from positronic.raw.episode import Episode
from positronic.raw.faults import BadEpisode
from positronic.raw.kinds import JOINTS, kind_of
from positronic.raw.timeline import Times

Samples = dict[str, NDArray[Any]]
"""Raw signal -> its values at the episode's grid times, (T,) or (T, d), in the type that was recorded."""
CountFrames = Callable[[int], None]
"""Called with the timesteps done since the last call."""


@dataclass(frozen=True)
class EpisodeBaker:
    """What every episode of a bake has in common. ``task`` None takes the episode's own, which may be empty. ``known``:
    fingerprint -> index of the episodes that are already in the dataset. ``robot_is_told``: see ``require_robot``.
    ``keeps_samples``: hand on the raw samples too, for whoever encodes them again."""

    codec: Codec
    modality: Modality
    video: VideoConfig
    task: str | None
    max_staleness_sec: float | None
    max_state_staleness_sec: float | None = 1.0
    known: Mapping[str, int] = field(default_factory=dict)
    robot_is_told: bool = True
    keeps_samples: bool = False


class Source(NamedTuple):
    """Where a baked episode came from."""

    uid: str
    fingerprint: str


class BakedEpisode(NamedTuple):
    """``columns``: (T, D) float32 by name. ``turned``: as from ``Codec.count_turned``. ``breaches``: of limits.
    ``pieces``: mp4 by column. ``histograms``: by column. ``was_there``: an interrupted bake left its pieces.
    ``joint_names``: if the codec has joints and their names were recorded. ``notes``: what the report should say about
    it. ``samples``: what the columns were made of, if the baker keeps it."""

    source: Source
    task: str
    length: int
    columns: dict[str, NDArray[np.float32]]
    turned: dict[str, int]
    breaches: list[Breach]
    pieces: dict[str, Path]
    histograms: dict[str, Histogram]
    was_there: bool
    joint_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    samples: Samples | None = None


class Duplicate(NamedTuple):
    """An episode whose content is already in the dataset, as episode ``index``."""

    id: int
    uid: str
    path: str
    index: int


class Rejected(NamedTuple):
    """A bad episode and why."""

    id: int
    uid: str
    path: str
    reason: str


class Encoded(NamedTuple):
    """The numbers of one episode; as in BakedEpisode."""

    columns: dict[str, NDArray[np.float32]]
    turned: dict[str, int]
    breaches: list[Breach]


class _Plan(NamedTuple):
    task: str
    times_ns: Times
    frames: dict[str, NDArray[np.int64]]
    samples: Samples
    encoded: Encoded


def bake_episode(
    baker: EpisodeBaker, episode: Episode, folder: Path, progress: CountFrames
) -> BakedEpisode | Duplicate | Rejected:
    """Bake the episode, or take its pieces from ``folder`` if it was baked before. A bad episode is returned as
    Rejected."""
    try:
        plan = _plan(baker, episode)
        source = Source(episode.uid, episode.fingerprint())
        if source.fingerprint in baker.known:
            return _duplicate(episode, baker.known[source.fingerprint])
        return _bake(baker, episode, plan, source, folder, progress)
    except PositronicError as error:
        return _rejected(episode, error)


def check_episode(baker: EpisodeBaker, episode: Episode) -> Duplicate | Rejected | None:
    """Everything that can be found wrong without decoding video."""
    try:
        _plan(baker, episode)
        index = baker.known.get(episode.fingerprint())
    except PositronicError as error:
        return _rejected(episode, error)
    return None if index is None else _duplicate(episode, index)


def _duplicate(episode: Episode, index: int) -> Duplicate:
    return Duplicate(episode.id, episode.uid, str(episode.place), index)


def _rejected(episode: Episode, error: PositronicError) -> Rejected:
    reason = error.reason if isinstance(error, BadEpisode) else str(error)
    return Rejected(episode.id, episode.uid, str(episode.place), reason)


def _plan(baker: EpisodeBaker, episode: Episode) -> _Plan:
    codec = baker.codec
    require_robot(episode, codec, baker.robot_is_told)
    episode.validate(codec.signals)
    times = episode_grid(episode, codec.signals, codec.timing.fps)
    frames = {
        image.name: camera_indices(episode, image.signal, times, baker.max_staleness_sec) for image in codec.images
    }
    samples = sample_vectors(episode, codec.vector_signals, times)
    encoded = encode_samples(codec, baker.modality, samples)
    for name, rows in encoded.columns.items():
        if not np.isfinite(rows).all():  # what was recorded is finite, in float64
            raise BadEpisode(episode.path, f"column '{name}' holds numbers too large for float32.")
    if baker.max_state_staleness_sec is not None:
        require_fresh_vectors(episode, codec.vector_signals, times, baker.max_state_staleness_sec)
    return _Plan(_task(baker, episode), times, frames, samples, encoded)


def encode_samples(codec: Codec, modality: Modality, samples: Samples) -> Encoded:
    """Columns of the raw ``samples`` of one episode. What is too large for float32 becomes infinite."""
    with np.errstate(over="ignore"):
        canonical, turned, beyond = codec.encode_episode(samples), codec.count_turned(samples), breaches(codec, samples)
        columns = {column.name: column.join(canonical) for column in modality.vector_columns}
    return Encoded(columns, turned, beyond)


def _task(baker: EpisodeBaker, episode: Episode) -> str:
    task: Any = episode.statics.get(keys.TASK, "") if baker.task is None else baker.task
    if not isinstance(task, str):
        raise BadEpisode(episode.path, f"static '{keys.TASK}' holds {task!r}, a text was expected.")
    try:
        task.encode()
    except UnicodeEncodeError as error:
        raise BadEpisode(episode.path, f"static '{keys.TASK}' holds half a character ({error}).") from None
    return task


def _bake(
    baker: EpisodeBaker, episode: Episode, plan: _Plan, source: Source, folder: Path, progress: CountFrames
) -> BakedEpisode:
    length, columns = len(plan.times_ns), baker.modality.image_columns
    piece = Piece(folder, source.fingerprint, [column.name for column in columns])
    was_there = piece.take_up(length)
    if was_there:
        progress(length)
    else:
        _encode(baker, episode, plan, piece, progress)
    _require_moving_pictures(baker, episode, plan, piece)
    # A codec without joints takes episodes whatever the order of theirs.
    has_joints = any(kind_of(name) is JOINTS for name in baker.codec.vector_signals)
    return BakedEpisode(
        source=source,
        task=plan.task,
        length=length,
        **plan.encoded._asdict(),
        pieces=piece.paths,
        histograms=piece.histograms(),
        was_there=was_there,
        joint_names=episode.joint_names if has_joints else None,
        notes=tuple(episode.notes),
        samples=plan.samples if baker.keeps_samples else None,
    )


def _encode(baker: EpisodeBaker, episode: Episode, plan: _Plan, piece: Piece, progress: CountFrames) -> None:
    length, cameras, histograms, still = len(plan.times_ns), baker.modality.image_columns, {}, {}
    with piece.begin() as folder:
        for number, column in enumerate(cameras):
            image, path = column.sources[0], Path(folder) / file_name(number)
            encoded = _encode_camera(baker, episode, image, plan.frames[image.name], path)
            histograms[column.name], still[column.name] = encoded
            progress(length * (number + 1) // len(cameras) - length * number // len(cameras))
        piece.store(Path(folder), histograms, still)


def _encode_camera(
    baker: EpisodeBaker, episode: Episode, image: ImageFeature, indices: NDArray[np.int64], path: Path
) -> tuple[Histogram, list[StillRun]]:
    """Decode, letterbox and encode. A frame that is shown repeatedly is prepared once. Returns the histogram and the
    spans in which the picture does not change."""
    total, watch, preparer = empty_histogram(), StillWatch(), FramePreparer(image, baker.video.pix_fmt)
    looks = max(1, baker.codec.timing.fps // LOOKS_PER_SEC)
    with piece_writer(path, image.height, image.width, baker.codec.timing.fps, baker.video) as writer:
        for number, prepared in enumerate(episode[image.signal].frames_as(indices, preparer.prepare)):
            writer.write(prepared.frame)
            total += prepared.histogram
            if number % looks == 0:
                watch.look(number, look_at(prepared.picture, prepared.inside))
    return total, watch.runs()


def _require_moving_pictures(baker: EpisodeBaker, episode: Episode, plan: _Plan, piece: Piece) -> None:
    """Held against the piece, so that one which an interrupted bake left is judged by this bake's limits."""
    found = piece.still_runs()
    runs = {column.sources[0].signal: found[column.name] for column in baker.modality.image_columns}
    if baker.max_staleness_sec is not None:
        for camera, still in runs.items():
            require_moving_picture(episode, camera, still, plan.times_ns, baker.max_staleness_sec)
    if baker.max_state_staleness_sec is not None:
        require_arm_to_the_end(episode, runs, plan.times_ns, baker.max_state_staleness_sec)
