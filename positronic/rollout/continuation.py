"""The folder of an evaluation: what was asked for, and which episodes are done, so that a later run continues it.

``evaluation.json`` lies beside the episodes. It holds the settings on which their outcomes depend. How an episode went
is read from its recording, so that a run that was killed loses no more than the episodes under way.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.config import HardwareConfig
from positronic.raw.episode import Episode
from positronic.raw.layout import META_FILE, episode_paths, remove_unfinished
from positronic.raw.signals import VectorSignal
from positronic.raw.timeline import NS_PER_SEC
from positronic.rollout.asked import POLICY_IS, require_same
from positronic.rollout.config import DECIDED, REFUSE, STOP, DriverConfig
from positronic.rollout.results import ABORTED, SAID_BY_STATICS, EpisodeResult, Series
from positronic.storage.folder import RemoteFolder
from positronic.storage.place import Place
from positronic.storage.publishing import unpublish
from positronic.utils.files import replace_text

EVALUATION_FILE = "evaluation.json"
FREE = ("name", "num_episodes", "num_robots", "show_gui", "save_videos", "stop_when")
"""Values of the driver that no episode depends on."""
STOP_WHEN, ON_UNSAFE = "stop_when", "on_unsafe_chunk"


def asked_for(
    hardware: HardwareConfig,
    driver: DriverConfig,
    seed: int,
    policy: Mapping[str, Any],
    jpeg_quality: int | None = None,
) -> dict[str, Any]:
    """The settings on which episodes depend, and how many there are. ``policy``: its meta. ``jpeg_quality``: of the
    pictures that it is sent, None for pictures as they are."""
    sent = {} if jpeg_quality is None else {"jpeg_quality": jpeg_quality}
    return {
        "seed": seed,
        "hardware": asdict(hardware),
        "driver": {name: value for name, value in asdict(driver).items() if name not in FREE},
        "policy": {name: policy[name] for name in POLICY_IS if name in policy} | sent,
        STOP_WHEN: driver.stop_when,
    }


def begin(root: Path, asked: Mapping[str, Any]) -> None:
    """Note what is asked for, in a folder without episodes."""
    replace_text(root / EVALUATION_FILE, json.dumps(asked, indent=1) + "\n")


def ever_to_end_when_decided(place: Place) -> bool:
    """Whether a run into this folder had ``driver.stop_when=decided``; False where nobody has noted it."""
    content = place.read_bytes(EVALUATION_FILE)
    return content is not None and json.loads(content).get(STOP_WHEN) == DECIDED


def require_resumable(root: Path, place: object) -> None:
    """Remove what was being recorded when an earlier run was killed. Raise PositronicError if the episodes that are
    there cannot be continued: nobody has noted what they were asked for."""
    remove_unfinished(root)
    if any(episode_paths(root)) and not (root / EVALUATION_FILE).exists():
        raise PositronicError(
            f"{place} holds episodes, but no {EVALUATION_FILE}: they were not recorded by stage=infer, or by an older"
            f" one, and cannot be continued. Record elsewhere, e.g. output_dir={place}_2."
        )


def go_on(root: Path, place: Place, asked: Mapping[str, Any], num_episodes: int) -> list[EpisodeResult]:
    """The episodes that count already, in order of id; begin if nothing is there. Those that were aborted are removed,
    so that they are played again. ``place``: where the folder is uploaded to, or the folder itself.

    Raises PositronicError if they were recorded with other settings, with both sides, or if there are more than
    ``num_episodes``.
    """
    if not (root / EVALUATION_FILE).exists():
        begin(root, asked)
        return []
    recorded = _read(root / EVALUATION_FILE)
    asked = {**asked, **_never_forgotten(recorded, asked)}
    require_same(place, {**recorded, **_may_change(recorded, asked)}, asked, "recorded")
    begin(root, asked)
    done = [read_result(path) for path in episode_paths(root)]
    if done and done[-1].id >= num_episodes:
        raise PositronicError(
            f"{place} holds episodes up to number {done[-1].id}, more than the {num_episodes} that are asked for. Type"
            f" driver.num_episodes={done[-1].id + 1} or more."
        )
    for result in done:
        if result.outcome == ABORTED:
            _remove(Path(result.path), place, root)
    return [result for result in done if result.outcome != ABORTED]


def _never_forgotten(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """That a run was once to end when it was decided: how many episodes there are may follow from what they said."""
    return {STOP_WHEN: DECIDED if DECIDED in (recorded.get(STOP_WHEN), asked[STOP_WHEN]) else asked[STOP_WHEN]}


def _may_change(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Of what is asked for, the values that no episode in the folder depends on: with ``refuse``, an unsafe chunk has
    left none that counts, so that ``stop`` may follow."""
    driver = dict(recorded.get("driver") or {})
    if (driver.get(ON_UNSAFE), asked["driver"][ON_UNSAFE]) == (REFUSE, STOP):
        driver[ON_UNSAFE] = STOP
    return {STOP_WHEN: asked[STOP_WHEN], "driver": driver}


def read_result(path: Path) -> EpisodeResult:
    """How the recorded rollout in ``path`` went: what ``run_episode`` returned.

    Raises PositronicError when the recording does not say it.
    """
    episode = Episode(path)
    said = episode.statics
    try:
        return EpisodeResult(
            **{name: said[key] for name, key in SAID_BY_STATICS.items() if key in said},
            id=episode.id,
            path=str(path),
            task=said.get(keys.TASK, ""),
            latencies_ms=episode.meta[keys.EVAL_LATENCIES_MS],
            metrics=dict(_metrics(episode, said[keys.EVAL_METRICS])),
        )
    except (KeyError, TypeError) as error:
        raise PositronicError(
            f"{path} does not say how its rollout went: {error!r}. Remove this episode, and it is played again."
        ) from None


def _metrics(episode: Episode, names: list[str]) -> Iterator[tuple[str, Series]]:
    for name in names:
        signal = episode.signals[name]
        assert isinstance(signal, VectorSignal)
        seconds = (np.asarray(signal.times_ns) / NS_PER_SEC).tolist()
        yield name, list(zip(seconds, map(float, signal.values), strict=True))


def _remove(episode: Path, place: Place, root: Path) -> None:
    if isinstance(place, RemoteFolder):
        unpublish(place.uri / episode.relative_to(root).as_posix(), META_FILE, place.config)
    shutil.rmtree(episode)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise PositronicError(
            f"{path} is damaged: expected what stage=infer was asked for, found: {error!r}. Record elsewhere, e.g. "
            f"output_dir={path.parent}_2."
        ) from None
