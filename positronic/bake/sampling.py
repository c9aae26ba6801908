"""The grid of a bake, in exact integers: the time of each frame of a baked episode, and the samples that are current
then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.bake.robot import recorded_cameras, with_cameras
from positronic.codecs.codec import Codec
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.raw.dataset import Dataset
from positronic.raw.episode import Episode
from positronic.raw.faults import BadEpisode
from positronic.raw.kinds import JOINTS, kind_of, looks_like_poses, remedy, size_of
from positronic.raw.signals import VectorSignal
from positronic.raw.timeline import NS_PER_SEC, Times
from positronic.raw.video import VideoSignal


def grid_size(duration_ns: int, fps: int) -> int:
    """ceil(duration * fps): how many grid points lie in ``duration_ns``; 0 when it is not positive."""
    return max(0, -(-duration_ns * fps // NS_PER_SEC))


def grid_ns(start_ns: int, last_ns: int, fps: int) -> Times:
    """``t_k = start + (k * 10**9) // fps`` for k < ceil(duration * fps): int64 (T,), ns."""
    return start_ns + np.arange(grid_size(last_ns - start_ns, fps), dtype=np.int64) * NS_PER_SEC // fps


def episode_grid(episode: Episode, signals: Sequence[str], fps: int) -> Times:
    """The grid of an episode for a codec with ``signals``. Raises BadEpisode if the signals never overlap."""
    start, last = episode.start_of(signals), episode.last_of(signals)
    times = grid_ns(start, last, fps)
    if not len(times):
        raise BadEpisode(episode.path, f"its signals never overlap: they begin at {start} ns and end at {last} ns.")
    return times


def camera_indices(
    episode: Episode, camera: str, times_ns: Times, max_staleness_sec: float | None
) -> NDArray[np.int64]:
    """Frame shown at each grid time, int64 (T,). Raises BadEpisode when one is older than ``max_staleness_sec``."""
    signal = episode[camera]
    if not isinstance(signal, VideoSignal):
        raise BadEpisode(episode.path, f"'{camera}' was recorded as numbers, expected a camera.")
    indices = signal.index_at(times_ns)
    if max_staleness_sec is not None:
        _require_fresh(episode, camera, signal.times_ns[indices], times_ns, max_staleness_sec)
    return indices


def _require_fresh(episode: Episode, name: str, current_ns: Times, times_ns: Times, limit_sec: float) -> None:
    ages = times_ns - current_ns
    worst = int(ages.argmax())
    if ages[worst] > limit_sec * NS_PER_SEC:
        raise BadEpisode(
            episode.path,
            f"'{name}' stands still: its last sample is {ages[worst] / NS_PER_SEC:.2f} s old at "
            f"{(times_ns[worst] - times_ns[0]) / NS_PER_SEC:.2f} s (allowed: max_staleness_sec={limit_sec}).",
        )


def sample_vectors(episode: Episode, names: Sequence[str], times_ns: Times) -> dict[str, NDArray[Any]]:
    """Values current at each grid time: name -> (T,) or (T, d). Raises BadEpisode if one is a camera, or text."""
    for name in names:
        signal = episode[name]
        if isinstance(signal, VideoSignal):
            raise BadEpisode(episode.path, f"'{name}' was recorded as video, expected numbers.")
        if signal.values.dtype.kind == "O":
            raise BadEpisode(episode.path, f"{signal.path.name} holds text, expected numbers.")
    return {name: episode[name].at(times_ns) for name in names}


def require_signals(dataset: Dataset, codec: Codec) -> None:
    """Raise PositronicError if nothing can be baked, whatever single episodes hold.

    This is so if there is no episode, if no episode has a signal that the codec needs or the source of an alias, or if
    an alias takes a signal of another size or kind. A signal that only some episodes lack makes these episodes bad.
    """
    if not len(dataset):
        raise PositronicError(f"Dataset {dataset.root} has no episode; name another with dataset.path=<folder>.")
    aliases = dataset.naming.aliases
    missing, sources = list(codec.signals), list(aliases.values())
    for episode in dataset:
        missing = [name for name in missing if name not in episode.signals]
        sources = [name for name in sources if name not in episode.signals.sources]
        if not missing and not sources:
            break
    if sources:
        raise _no_source(dataset, sources[0])
    if missing:
        raise _no_signal(dataset, codec, missing)
    for name in sorted(aliases.keys() & set(codec.signals)):
        _require_fitting(dataset, codec, name)


def _no_source(dataset: Dataset, source: str) -> PositronicError:
    recorded = dataset[0].signals.sources
    target = next(name for name, taken in dataset.naming.aliases.items() if taken == source)
    return PositronicError(
        f"dataset.aliases={{{target}: {source}}}: no episode of {dataset.root} has a signal '{source}'."
        f"{did_you_mean(source, recorded)} Recorded: {listing(recorded)}."
    )


def _no_signal(dataset: Dataset, codec: Codec, missing: Sequence[str]) -> PositronicError:
    names = ", ".join(f"'{name}'" for name in missing)
    signals = next((episode.signals for episode in dataset if len(episode.signals)), None)
    if signals is None:
        return PositronicError(f"No episode of {dataset.root} ({len(dataset)} in all) has any signal.")
    hint = remedy(missing[0], signals, _sizes(codec).get(missing[0]))
    cameras = _cameras_hint(codec, signals) if set(missing) <= {image.signal for image in codec.images} else ""
    return PositronicError(
        f"Codec '{codec.name}' needs {names}, which no episode of {dataset.root} has.{hint}{cameras} Or choose another "
        "codec=..."
    )


def _cameras_hint(codec: Codec, signals: Iterable[str]) -> str:
    """What to type for the cameras that were recorded, where others are missing."""
    recorded = recorded_cameras(signals)
    return f" Or take the cameras that were recorded: {with_cameras(codec.embodiment, recorded)}." if recorded else ""


def _require_fitting(dataset: Dataset, codec: Codec, name: str) -> None:
    """Compare an alias with the first episode that has its source."""
    source, needed = dataset.naming.aliases[name], _needs(codec, name)
    signal = next(episode.signals[name] for episode in dataset if source in episode.signals.sources)
    try:
        found = _holds(signal, name)
    except BadEpisode:
        return  # it is named with the others
    if found != needed:
        raise PositronicError(
            f"dataset.aliases={{{name}: {source}}}: codec '{codec.name}' needs {needed} under '{name}', but '{source}' "
            f"holds {found} ({signal.path}). An alias renames and converts nothing: name another signal."
        )


def _needs(codec: Codec, name: str) -> str:
    size = _sizes(codec).get(name)
    return "pictures" if size is None else f"{size} numbers a sample"


def _holds(signal: VectorSignal | VideoSignal, name: str) -> str:
    if isinstance(signal, VideoSignal):
        return "pictures"
    values = signal.values
    if values.dtype.kind == "O":
        return "text"
    if kind_of(name) is JOINTS and looks_like_poses(values):
        return "poses (its last four numbers are unit quaternions)"
    return f"{size_of(signal)} numbers a sample"


def _sizes(codec: Codec) -> dict[str, int]:
    """Numbers a sample of every vector signal."""
    return {feature.signal: feature.part.raw_size for feature in (*codec.state, *codec.action)}
