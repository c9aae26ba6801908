"""What ``meta/`` of a LeRobot dataset says: format, rate, columns, tasks, and where each episode is.

Formats v2.0 and v2.1 have a parquet file and videos for each episode, and list episodes and tasks in JSON lines. In
v3.0 many episodes share a file, and the lists are parquet too. All three keep ``meta/info.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from positronic import keys
from positronic.errors import PositronicError, listing
from positronic.importing.lerobot_features import Feature, read_feature

V20 = "v2.0"
TIMESTAMP, FRAME_INDEX, EPISODE_INDEX, TASK_INDEX = "timestamp", "frame_index", "episode_index", "task_index"
BOOKKEEPING = (TIMESTAMP, FRAME_INDEX, EPISODE_INDEX, "index", TASK_INDEX)
"""Columns of every dataset that number its rows."""
EPISODE_FILE = "meta/episodes.jsonl"
EPISODE_TABLES = "meta/episodes/*/*.parquet"
TASKS_FILE = {
    V20: "meta/tasks.jsonl",
    keys.FORMAT_V21: "meta/tasks.jsonl",
    keys.FORMAT_V30: "meta/tasks.parquet",
}
EACH_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
EACH_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
SHARED_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
SHARED_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
STATISTICS = ("stats/", "meta/")  # how columns of the episodes' table begin that are not about the recording
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError, pa.ArrowException)
UNFINISHED = (
    "Is the dataset still being recorded, or was the recorder ended before LeRobotDataset.finalize()? Wait, or copy it"
    " again."
)


@dataclass(frozen=True)
class Info:
    """``meta/info.json`` of the dataset in ``root``. ``features``: the columns, without those that number rows."""

    root: Path
    version: str
    fps: float
    features: Mapping[str, Feature]
    robot_type: str | None
    total_episodes: int
    total_frames: int
    chunks_size: int
    data_path: str
    video_path: str

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.root / keys.INFO_FILE

    @property
    def is_shared(self) -> bool:
        """Whether episodes share files."""
        return self.version == keys.FORMAT_V30

    def file(self, template: str, **where: Any) -> Path:
        """A path in the dataset. Raises PositronicError for a template that asks for what is not known."""
        try:
            return self.root / template.format(**where)
        except (LookupError, ValueError, AttributeError) as error:
            raise PositronicError(f"{self.path}: the path '{template}' cannot be filled in ({error!r}).") from None


@dataclass(frozen=True)
class Place:
    """Where an episode is. ``tasks``: instruction -> its index in the rows. ``videos``: camera -> file, and the time in
    it, s, at which the episode begins. ``more``: what else the list of episodes says of it."""

    index: int
    length: int
    tasks: Mapping[str, int]
    data: Path
    videos: Mapping[str, tuple[Path, float]]
    more: Mapping[str, Any] = field(default_factory=dict)


def read_info(root: Path) -> Info:
    """Raises PositronicError when there is no LeRobot dataset of these formats."""
    path = root / keys.INFO_FILE
    if not path.is_file():
        what = f"no LeRobot dataset, as it has no {keys.INFO_FILE}" if root.exists() else "there is nothing"
        more = _below(root) or " Type the path of the folder that holds meta/."
        raise PositronicError(f"{root}: {what}.{more}")
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["codebase_version"]
        if version not in TASKS_FILE:
            raise PositronicError(f"{path}: codebase_version {version}; expected one of {', '.join(TASKS_FILE)}.")
        fps = float(content["fps"])
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps is {fps}")
        features = {name: read_feature(entry) for name, entry in content["features"].items()}
        data, video = (SHARED_DATA, SHARED_VIDEO) if version == keys.FORMAT_V30 else (EACH_DATA, EACH_VIDEO)
        return Info(
            root=root,
            version=version,
            fps=fps,
            features={name: feature for name, feature in features.items() if name not in BOOKKEEPING},
            robot_type=content.get("robot_type"),
            total_episodes=int(content["total_episodes"]),
            total_frames=int(content["total_frames"]),
            chunks_size=int(content.get("chunks_size") or 1000),
            data_path=content.get("data_path") or data,
            video_path=content.get("video_path") or video,
        )


def read_places(info: Info) -> list[Place]:
    """Every episode, in order of their numbers. Only ``meta/`` is read.

    Raises PositronicError where the lists contradict ``meta/info.json`` or each other, and for one that has no end.
    """
    tasks = _tasks(info)
    entries = _shared_entries(info) if info.is_shared else _each_entry(info)
    places = sorted((_place(info, path, entry, tasks) for path, entry in entries), key=lambda place: place.index)
    where = info.root / ("meta/episodes" if info.is_shared else EPISODE_FILE)
    twice = [a.index for a, b in pairwise(places) if a.index == b.index]
    if twice:
        raise PositronicError(f"{where}: episode {twice[0]} is there twice.")
    for what, expected, found in (
        ("episodes", info.total_episodes, len(places)),
        ("frames", info.total_frames, sum(place.length for place in places)),
    ):
        if found != expected:
            raise PositronicError(f"{where}: {found} {what}; {info.path} says {expected}. {UNFINISHED}")
    return places


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise PositronicError, naming ``path``, for what damaged bytes make pyarrow, json and our own checks raise."""
    try:
        yield
    except FileNotFoundError:
        raise PositronicError(f"{path}: missing. Copy the dataset again, whole.") from None
    except DAMAGE as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = f"'{error.args[0]}' is not there" if isinstance(error, KeyError) else why
        more = f" {UNFINISHED}" if path.suffix == ".parquet" else " Copy the dataset again."
        raise PositronicError(f"{path}: it cannot be read ({why}).{more}") from None


def _place(info: Info, path: Path, entry: Mapping[str, Any], tasks: Mapping[str, int]) -> Place:
    with reading(path):
        index, length, told = int(entry["episode_index"]), int(entry["length"]), tuple(entry["tasks"])
        missing = [task for task in told if task not in tasks]
        if missing:
            file = info.root / TASKS_FILE[info.version]
            raise PositronicError(f"{path}: episode {index} has the task '{missing[0]}', which {file} does not list.")
        numbers = {"episode_index": index, "episode_chunk": index // info.chunks_size}
        cameras = [name for name, feature in info.features.items() if feature.is_video]
        known = {"episode_index", "length", "tasks", "dataset_from_index", "dataset_to_index"}
        named = {name for name in entry if name in known or name.startswith(("data/", "videos/", *STATISTICS))}
        return Place(
            index=index,
            length=length,
            tasks={task: tasks[task] for task in told},
            data=info.file(info.data_path, **numbers, **_slot(entry, "data")),
            videos={camera: _video(info, camera, entry, numbers) for camera in cameras},
            more={name: value for name, value in entry.items() if name not in named},
        )


def _slot(entry: Mapping[str, Any], folder: str) -> dict[str, Any]:
    names = ("chunk_index", "file_index")
    return {name: entry[f"{folder}/{name}"] for name in names if f"{folder}/{name}" in entry}


def _video(info: Info, camera: str, entry: Mapping[str, Any], numbers: Mapping[str, int]) -> tuple[Path, float]:
    folder = f"videos/{camera}"
    path = info.file(info.video_path, video_key=camera, **numbers, **_slot(entry, folder))
    return path, float(entry[f"{folder}/from_timestamp"]) if info.is_shared else 0.0


def _each_entry(info: Info) -> Iterator[tuple[Path, dict[str, Any]]]:
    path = info.root / EPISODE_FILE
    for entry in _lines(path):
        yield path, entry


def _shared_entries(info: Info) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(info.root.glob(EPISODE_TABLES)):
        with reading(path), pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if not name.startswith(STATISTICS)]
            for batch in file.iter_batches(columns=names):
                for entry in batch.select(names).to_pylist():
                    yield path, entry


def _tasks(info: Info) -> dict[str, int]:
    """Instruction -> its index."""
    path = info.root / TASKS_FILE[info.version]
    if not info.total_episodes and not path.exists():
        return {}
    if not info.is_shared:
        entries = _lines(path)
        with reading(path):
            return {str(entry["task"]): int(entry["task_index"]) for entry in entries}
    with reading(path):
        table = pq.read_table(path)
        texts = [name for name in table.column_names if name != TASK_INDEX]  # pandas calls its index differently
        return dict(zip(table[texts[0]].to_pylist(), table[TASK_INDEX].to_pylist(), strict=True))


def _lines(path: Path) -> list[dict[str, Any]]:
    with reading(path):
        found = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
        return found


def _below(root: Path) -> str:
    found = [path.parents[1] for path in sorted(root.glob(f"*/{keys.INFO_FILE}"))] if root.is_dir() else []
    return f" There are some below: {listing(map(str, found))}. Type the path of one." if found else ""
