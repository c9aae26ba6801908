"""Videos of the seeds that went differently, from their recordings, where an evaluation has not filmed them itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from positronic.raw.episode import Episode
from positronic.raw.video import VideoSignal
from positronic.rollout.comparison import Comparison, Evaluation
from positronic.rollout.results import EpisodeResult
from positronic.rollout.video import film

VIDEO_FOLDER = "videos"
Films = Mapping[tuple[str, int], Path]
"""Name of an evaluation and seed -> its video."""


def films_of(comparison: Comparison, root: Path, count: int) -> Films:
    """A video, which shows what the cameras saw, of each evaluation at the first ``count`` seeds that went differently,
    below ``root``; if none did, at the first seed. Of recordings that are elsewhere or have no camera there is none."""
    films = {}
    for seed in (comparison.differing or comparison.seeds[:1])[:count]:
        for each in comparison.evaluations:
            filmed, recording = own_film(each, seed), _recording(each, seed)
            if filmed is not None:
                films[each.name, seed] = filmed
            elif recording is not None:
                path = root / VIDEO_FOLDER / f"{each.name.replace('/', '_')}_seed{seed}.mp4"
                film(recording, _result(each, seed), None, path)
                films[each.name, seed] = path
    return films


def own_film(evaluation: Evaluation, seed: int) -> Path | None:
    """The video that the evaluation has of this seed, if it is on this machine."""
    name, local = evaluation.report["videos"].get(str(evaluation.episodes[seed]["id"])), evaluation.place.local
    if name is None or local is None or not (local / name).is_file():
        return None
    return local / name


def _recording(evaluation: Evaluation, seed: int) -> Episode | None:
    local = evaluation.place.local
    path = None if local is None else local / evaluation.episodes[seed]["path"]
    if path is None or not path.is_dir():
        return None
    episode = Episode(path)
    return episode if any(isinstance(signal, VideoSignal) for signal in episode.signals.values()) else None


def _result(evaluation: Evaluation, seed: int) -> EpisodeResult:
    """As far as a caption says it."""
    said = evaluation.episodes[seed]
    told = {name: said[name] for name in ("id", "seed", "outcome", "path", "duration_sec", "success_sec", "reason")}
    return EpisodeResult(**told, task=evaluation.report["task"])
