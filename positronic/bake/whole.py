"""Is a baked dataset complete? Its redundant records are compared with each other.

Manifest, ``info.json``, sidecar, tasks, episodes, rows, videos and statistics each say how much there is. Only headers
and LeRobot's own columns are read, so that a million rows take about a second. Whether a byte has changed since the
bake is for ``file_list``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic import keys
from positronic.bake import features, writer_v21, writer_v30
from positronic.bake.columns import data_files
from positronic.bake.config import VideoConfig
from positronic.bake.file_list import (
    FileList,
    changed_files,
    measure,
    read_file_list,
    require_present,
    require_sizes,
    write_file_list,
)
from positronic.bake.files import EPISODES_PATH, Slot
from positronic.bake.manifest import Manifest
from positronic.bake.mp4 import count_frames
from positronic.bake.places import Places, read_places
from positronic.bake.reading import AGAIN, episode_error, integers, read_columns, read_lines, read_object, reading
from positronic.bake.sidecar import read_sources
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.storage.streaming import Arriving

VIDEOS = "videos/"

logger = logging.getLogger(__name__)

# Of videos, before a training or an append begins: some 10 s from a disk, and 10 hours of two cameras. More are looked
# at by size and headers, as everywhere; to read 100 GB from a network takes longer than a person would wait for.
MAX_READ_BYTES = 2 * 10**9


@dataclass(frozen=True, eq=False)
class Whole:
    """A dataset that agrees with itself. ``uids``: of its source episodes. ``tasks``: in the order of ``task_index``.
    ``rows``: the columns asked for. ``stats``: ``meta/stats.json`` as it is, unless it was left out."""

    recipe: Recipe
    uids: list[str]
    places: Places
    tasks: tuple[str, ...]
    rows: pa.Table
    stats: dict[str, Any] | None


def require_whole(
    root: Path, manifest: Manifest, columns: Sequence[str] = (), videos: bool = True, anew: Collection[str] = ()
) -> Whole:
    """Check every file of the dataset in ``root``, and read ``columns`` of its rows.

    Without ``videos``, videos are not checked and may be missing. Files ``anew`` may be missing too, since they will be
    written again. Raises PositronicError that names the contradicted file and, if it concerns one episode, the episode.
    """
    files = listed_files(root, manifest, videos, anew)
    require_present(root, files)
    recipe = manifest.load_recipe()
    cameras = {column.name: column.shape[:2] for column in recipe.modality.image_columns}
    sources = read_sources(root, manifest)
    places = read_places(root, manifest.dataset_format, cameras, manifest.fps)
    _require_same_episodes(root, places, sources.lengths, sources.tasks)
    tasks = tuple(dict.fromkeys(places.tasks))
    _require_info(root / keys.INFO_FILE, manifest, recipe, len(tasks))
    _require_tasks(root, manifest.dataset_format, tasks)
    rows = _rows(root, places, tasks, manifest.fps, columns)
    if videos:
        for camera, size in cameras.items():
            _require_frames(places, camera, manifest.fps, size)
    held_out = _held_out(root, manifest, sources.uids)
    trained = manifest.frames - int(sources.lengths[held_out].sum())
    stats = None if keys.STATS_FILE in anew else _stats(root / keys.STATS_FILE, recipe, trained)
    require_sizes(root, files)  # last: what is found before names the episode too
    return Whole(recipe, sources.uids, places, tasks, rows, stats)


def require_unchanged(
    root: Path, manifest: Manifest, whole: Whole, videos: bool = True, anew: Collection[str] = ()
) -> None:
    """Read every file of the dataset in ``root`` and compare it with what the bake wrote; others as for
    ``require_whole``. A dataset of an older version has no list of its files: nothing is read.

    Raises PositronicError that names the first file that has changed, and its episodes.
    """
    files = listed_files(root, manifest, videos, anew)
    changed = changed_files(root, files)
    if changed:
        episodes = whole.places.episodes_in(root / changed[0])
        of = f" (episodes {episodes[0]} to {episodes[-1]})" if episodes else ""
        more = f" The same is true of {len(changed) - 1} more files." if len(changed) > 1 else ""
        raise PositronicError(
            f"{root / changed[0]}{of} is damaged or of another dataset: its bytes are not those that the bake "
            f"wrote.{more} {AGAIN}"
        )


def require_coming(arriving: Arriving, files: FileList) -> None:
    """Raise PositronicError for the first video of ``files`` that neither is there nor comes, or has another size."""
    for name, expected in files.items():
        path = arriving.root / name
        if is_video(name) and arriving.size(path) != expected.size:
            raise PositronicError(
                f"{path} has {arriving.size(path)} bytes in the bucket, but the bake wrote {expected.size}: this is "
                f"not a whole baked dataset. {AGAIN}"
            )


def require_recorded(root: Path, files: FileList, path: Path) -> None:
    """Read the file at ``path`` and raise PositronicError unless it is what the bake wrote."""
    name = path.relative_to(root).as_posix()
    if name in files and changed_files(root, {name: files[name]}):
        raise PositronicError(
            f"{path} is damaged or of another dataset: its bytes are not those that the bake wrote. {AGAIN}"
        )


def is_video(name: str) -> bool:
    """Of a file, by its name within the dataset."""
    return name.startswith(VIDEOS)


def reads_videos(root: Path, manifest: Manifest) -> bool:
    """Whether the dataset's videos are few enough to be read whole before they are used; says so where they are not."""
    size = sum(each.size for name, each in listed_files(root, manifest).items() if is_video(name))
    if size > MAX_READ_BYTES:
        logger.warning(
            "%s holds %.0f GB of videos: their sizes and headers fit, their bytes were not compared with what the bake "
            "wrote. stage=stats report=true does that.",
            root,
            size / 1e9,
        )
    return size <= MAX_READ_BYTES


def listed_files(root: Path, manifest: Manifest, videos: bool = True, anew: Collection[str] = ()) -> FileList:
    """The dataset's files as the bake wrote them."""
    files = read_file_list(root) if manifest.file_list else {}
    skipped = set(anew) if videos else {*anew, *filter(is_video, files)}
    return {name: each for name, each in files.items() if name not in skipped}


def record_again(root: Path, manifest: Manifest, names: Collection[str]) -> None:
    """Record the present content of files ``names`` as right."""
    if manifest.file_list:
        write_file_list(root, read_file_list(root) | measure(root, names))


def _require_same_episodes(root: Path, places: Places, lengths: NDArray[np.int64], tasks: Sequence[str] | None) -> None:
    sidecar = root / keys.EPISODES_SIDECAR
    for k in range(min(len(places.lengths), len(lengths))):
        if places.lengths[k] != lengths[k]:
            says = f"its length is {places.lengths[k]}, that of {keys.EPISODES_SIDECAR} {lengths[k]}"
            raise episode_error(places.tables[k], k, says)
        if tasks is not None and places.tasks[k] != tasks[k]:
            says = f"its task is '{places.tasks[k]}', that of {keys.EPISODES_SIDECAR} '{tasks[k]}'"
            raise episode_error(places.tables[k], k, says)
    count, tables = len(places.lengths), list(dict.fromkeys(places.tables))
    if count < len(lengths) and tables and tables[0].suffix == ".parquet":
        next_table = root / EPISODES_PATH.format(**Slot.of(len(tables))._asdict())
        raise PositronicError(
            f"{next_table} is missing, or {tables[-1]} has lost its last rows: {count} episodes are listed, {sidecar} "
            f"has {len(lengths)}. {AGAIN}"
        )
    if count != len(lengths):
        raise PositronicError(
            f"{tables[-1] if tables else root}: {count} episodes are listed, {sidecar} has {len(lengths)}. {AGAIN}"
        )


def _held_out(root: Path, manifest: Manifest, uids: Sequence[str]) -> list[int]:
    """Indices of the episodes that are not to be trained on, as the manifest lists them and their names say."""
    if manifest.holdout is None:
        return []
    expected = manifest.holdout.to_dict(uids)
    if manifest.held_out != expected:
        raise PositronicError(
            f"{root / keys.MANIFEST_FILE}: episodes {manifest.held_out.get('episodes')} are held out, expected "
            f"{expected['episodes']} by their names and val_seed={manifest.holdout.seed}. {AGAIN}"
        )
    return expected["episodes"]


def _require_info(path: Path, manifest: Manifest, recipe: Recipe, tasks: int) -> None:
    """``info.json``, by which other programs read the dataset."""
    writer = writer_v30 if manifest.dataset_format == keys.FORMAT_V30 else writer_v21
    described = features.lerobot_features(recipe.modality, manifest.fps, VideoConfig(**manifest.video))
    expected = {
        "codebase_version": manifest.dataset_format,
        "fps": manifest.fps,
        "total_episodes": manifest.episodes,
        "total_frames": manifest.frames,
        "total_tasks": tasks,
        "chunks_size": writer.CHUNK_SIZE,
        "data_path": writer.DATA_PATH,
        "video_path": writer.VIDEO_PATH if recipe.modality.image_columns else None,
    }
    info = read_object(path)
    expected |= {f"features.{name}": _kind(feature) for name, feature in described.items()}
    with reading(path):
        found = info | {f"features.{name}": _kind(feature) for name, feature in info["features"].items()}
    names = [*expected, *(name for name in found if name.startswith("features.") and name not in expected)]
    for name in names:
        if found.get(name) != expected.get(name):
            raise PositronicError(
                f"{path}: {name} is {found.get(name)}, but {expected.get(name)} by {keys.MANIFEST_FILE} and the "
                f"episodes. {AGAIN}"
            )


def _kind(feature: dict[str, Any]) -> str:
    return f"{feature['dtype']} {feature['shape']}"


def _require_tasks(root: Path, dataset_format: str, tasks: Sequence[str]) -> None:
    if dataset_format == keys.FORMAT_V30:
        path = root / writer_v30.TASKS_FILE
        table = read_columns(path, ["task_index"])
        with reading(path):  # the texts are the index of a pandas frame, whose name varies
            whole = pq.read_table(path)
            (name,) = (name for name in whole.column_names if name != "task_index")
            found = dict(zip(integers(path, table, "task_index").tolist(), whole[name].to_pylist(), strict=True))
    else:
        path = root / writer_v21.TASKS_FILE
        lines = read_lines(path)
        with reading(path):
            found = {line["task_index"]: line["task"] for line in lines}
    if found != dict(enumerate(tasks)):
        raise PositronicError(f"{path}: its tasks are {found}, those of the episodes {dict(enumerate(tasks))}. {AGAIN}")


def _rows(root: Path, places: Places, tasks: Sequence[str], fps: int, columns: Sequence[str]) -> pa.Table:
    """Read ``columns``; LeRobot's own must be what follows from the episodes."""
    groups = [(path, [k for k, _ in group]) for path, group in groupby(enumerate(places.data), lambda pair: pair[1])]
    numbers = {task: number for number, task in enumerate(tasks)}
    task_of = np.array([numbers[task] for task in places.tasks], np.int64)
    found = [_rows_of_file(path, episodes, places, task_of, fps, columns) for path, episodes in groups]
    unknown = set(data_files(root)) - {path for path, _ in groups}
    if unknown:
        raise PositronicError(f"{min(unknown)} holds rows of no episode of this dataset. Remove it.")
    return pa.concat_tables(found)


def _rows_of_file(
    path: Path, episodes: Sequence[int], places: Places, task_of: NDArray[np.int64], fps: int, columns: Sequence[str]
) -> pa.Table:
    # LeRobot's own columns too: in them rows that slipped onto a neighbour's frames show.
    table = read_columns(path, [*features.BOOKKEEPING, *columns])
    lengths, first = places.lengths[episodes], places.starts[episodes[0]]
    episode_of = np.repeat(episodes, lengths)
    if len(table) != len(episode_of):
        k = episode_of[min(len(table), len(episode_of) - 1)]
        raise episode_error(path, int(k), f"the file holds {len(table)} rows, expected {len(episode_of)}")
    index = first + np.arange(len(table))
    steps = index - places.starts[episode_of]
    expected = {
        features.INDEX: index,
        features.EPISODE_INDEX: episode_of,
        features.FRAME_INDEX: steps,
        features.TIMESTAMP: (steps / fps).astype(np.float32),
        features.TASK_INDEX: task_of[episode_of],
    }
    for name, values in expected.items():
        wrong = np.flatnonzero(table[name].to_numpy() != values)
        if len(wrong):
            row = int(wrong[0])
            says = f"{name} is {table[name][row].as_py()} in row {row} of the file, expected {values[row].item()}"
            raise episode_error(path, int(episode_of[row]), says)
    return table.select(columns)


def _require_frames(places: Places, camera: str, fps: int, size: tuple[int, int]) -> None:
    for path, group in groupby(enumerate(places.videos[camera]), lambda pair: pair[1].path):
        spans = list(group)
        promised, found = sum(span.count for _, span in spans), count_frames(path, fps, size)
        if found != promised:
            k = next((k for k, span in spans if span.first + span.count > found), spans[-1][0])
            raise episode_error(path, k, f"the file holds {found} frames, but its episodes have {promised}")


def _stats(path: Path, recipe: Recipe, frames: int) -> dict[str, Any]:
    stats = read_object(path)
    for column in recipe.modality.columns:
        shape = (3, 1, 1) if column.is_image else column.shape
        if column.name not in stats:
            raise PositronicError(f"{path} has no statistics of '{column.name}'. {AGAIN}")
        with reading(path):
            values = {name: np.asarray(value, np.float64) for name, value in stats[column.name].items()}
            wrong = [n for n, v in values.items() if not np.isfinite(v).all() or (n != "count" and v.shape != shape)]
            if wrong or values["count"].tolist() != [frames] or (values["min"] > values["max"]).any():
                raise ValueError(f"'{column.name}' is not described for {frames} frames of shape {shape}")
    return stats
