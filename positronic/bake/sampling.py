"""The grid of a bake, in exact integers: when each frame of a baked episode is, and what is current then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.raw.episode import Episode
from positronic.raw.faults import BadEpisode
from positronic.raw.timeline import index_at
from positronic.raw.video import VideoSignal

NS = 10**9

Times = NDArray[np.int64]


def grid_size(duration_ns: int, fps: int) -> int:
    """ceil(duration * fps): how many grid points lie in ``duration_ns``; 0 when it is not positive."""
    return max(0, -(-duration_ns * fps // NS))


def grid_ns(start_ns: int, last_ns: int, fps: int) -> Times:
    """``t_k = start + (k * 10**9) // fps`` for k < ceil(duration * fps): int64 (T,), ns."""
    return start_ns + np.arange(grid_size(last_ns - start_ns, fps), dtype=np.int64) * NS // fps


def episode_grid(episode: Episode, signals: Sequence[str], fps: int) -> Times:
    """The grid of an episode as a codec with ``signals`` sees it. Raises BadEpisode when they never overlap."""
    start, last = episode.start_of(signals), episode.last_of(signals)
    times = grid_ns(start, last, fps)
    if not len(times):
        raise BadEpisode(episode.path, f"nothing is left of it: its signals begin at {start} ns and end at {last} ns.")
    return times


def camera_indices(
    episode: Episode, camera: str, times_ns: Times, max_staleness_sec: float | None
) -> NDArray[np.int64]:
    """Frame shown at each grid time, int64 (T,). Raises BadEpisode when one is older than ``max_staleness_sec``."""
    signal = episode[camera]
    if not isinstance(signal, VideoSignal):
        raise BadEpisode(episode.path, f"'{camera}' was recorded as numbers, a camera was expected.")
    indices = signal.index_at(times_ns)
    if max_staleness_sec is not None:
        _require_fresh(episode, camera, signal.times_ns[indices], times_ns, max_staleness_sec, "max_staleness_sec")
    return indices


def require_fresh_states(episode: Episode, names: Sequence[str], times_ns: Times, max_staleness_sec: float) -> None:
    """Raise BadEpisode when a measured value is older than ``max_staleness_sec`` at a grid time."""
    for name in names:
        stamps = episode[name].times_ns
        current = stamps[index_at(stamps, times_ns, name)]
        _require_fresh(episode, name, current, times_ns, max_staleness_sec, "max_state_staleness_sec")


def _require_fresh(
    episode: Episode, name: str, current_ns: Times, times_ns: Times, limit_sec: float, option: str
) -> None:
    ages = times_ns - current_ns
    worst = int(ages.argmax())
    if ages[worst] > limit_sec * NS:
        raise BadEpisode(
            episode.path,
            f"'{name}' stands still: its last sample is {ages[worst] / NS:.2f} s old at "
            f"{(times_ns[worst] - times_ns[0]) / NS:.2f} s (allowed: {option}={limit_sec}).",
        )


def sample_vectors(episode: Episode, names: Sequence[str], times_ns: Times) -> dict[str, NDArray[Any]]:
    """Values current at each grid time: name -> (T,) or (T, d). Raises BadEpisode when one is a camera."""
    cameras = [name for name in names if isinstance(episode[name], VideoSignal)]
    if cameras:
        raise BadEpisode(episode.path, f"'{cameras[0]}' was recorded as video, numbers were expected.")
    return {name: episode[name].at(times_ns) for name in names}


def require_signals(episodes: Sequence[Episode], signals: Sequence[str], codec: str, dataset: str) -> None:
    """Raise PositronicError when a signal is in no episode; one that only some of them lack makes those bad."""
    missing, present = list(signals), set()
    for episode in episodes:
        present.update(episode.signals)
        missing = [name for name in missing if name not in present]
        if not missing:
            return
    names = ", ".join(f"'{name}'" for name in missing)
    raise PositronicError(
        f"Codec '{codec}' needs {names}; dataset {dataset} has {listing(present)}.{did_you_mean(missing[0], present)} "
        f"Choose another codec=..., or name what was recorded: 'dataset.aliases={{{missing[0]}: <recorded name>}}'."
    )
