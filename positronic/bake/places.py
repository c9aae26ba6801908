"""Where each episode of a baked dataset is, by the tables of either format. The tables are compared with each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from positronic import keys
from positronic.bake import writer_v21, writer_v30
from positronic.bake.files import DATA_PATH, VIDEO_PATH
from positronic.bake.reading import AGAIN, episode_error, integers, read_columns, read_lines
from positronic.errors import PositronicError

COUNTED = ("episode_index", "length", "dataset_from_index", "dataset_to_index")
DATA_SLOT = ("data/chunk_index", "data/file_index")
VIDEO_SLOT = ("chunk_index", "file_index")
VIDEO_SPAN = ("from_timestamp", "to_timestamp")


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames are: ``first`` is the number of its first frame within the file at ``path``."""

    path: Path
    first: int
    count: int


@dataclass(frozen=True, eq=False)
class Places:
    """The places of E episodes in order. ``lengths``: int64 (E,) in frames, at least 1. ``tasks``. ``tables``: the file
    that says all this. ``data``: the file with the rows. ``videos``: camera -> its frames."""

    lengths: NDArray[np.int64]
    tasks: list[str]
    tables: list[Path]
    data: list[Path]
    videos: dict[str, tuple[VideoSpan, ...]]

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """int64 (E,): the dataset's index after each episode's last frame."""
        return self.lengths.cumsum()

    @property
    def starts(self) -> NDArray[np.int64]:
        """int64 (E,): the dataset's index of each episode's first frame."""
        return self.ends - self.lengths

    def episodes_in(self, path: Path) -> list[int]:
        """The first and the last episode that have something in ``path``. Empty if no episode has."""
        holders = [self.data, *([span.path for span in spans] for spans in self.videos.values())]
        there = [episode for paths in holders for episode, each in enumerate(paths) if each == path]
        return [min(there), max(there)] if there else []


def read_places(root: Path, dataset_format: str, cameras: Iterable[str], fps: int) -> Places:
    """The places of the dataset in ``root``. Raises PositronicError, naming file and episode, if the tables contradict
    each other."""
    read = {keys.FORMAT_V30: _of_v30, keys.FORMAT_V21: _of_v21}[dataset_format]
    return read(root, list(cameras), fps)


def _of_v30(root: Path, cameras: list[str], fps: int) -> Places:
    paths = sorted(root.glob(writer_v30.EPISODES_FILES))
    if not paths:
        raise PositronicError(
            f"{root} has no {writer_v30.EPISODES_FILES}, so this is not a whole baked dataset. {AGAIN}"
        )
    videos = [f"videos/{name}/{field}" for name in cameras for field in (*VIDEO_SLOT, *VIDEO_SPAN)]
    found = [read_columns(path, [*COUNTED, "tasks", *DATA_SLOT, *videos]) for path in paths]
    tables = [path for path, table in zip(paths, found, strict=True) for _ in range(len(table))]
    table = _V30Table(pa.concat_tables(found), tables, fps)
    lengths = table.lengths()
    return Places(
        lengths=lengths,
        tasks=table.tasks(),
        tables=tables,
        data=table.paths(root, DATA_PATH, DATA_SLOT),
        videos={name: table.spans(root, name, lengths) for name in cameras},
    )


class _V30Table:
    """The rows of ``meta/episodes``; ``paths``: the file that each is from."""

    def __init__(self, table: pa.Table, tables: list[Path], fps: int) -> None:
        self._table, self._tables, self._fps = table, tables, fps

    def lengths(self) -> NDArray[np.int64]:
        numbers, lengths, first, end = (self._integers(name) for name in COUNTED)
        self._require("episode_index", numbers, np.arange(len(numbers)))
        self._refuse(lengths < 1, "length", lengths)
        self._require("dataset_to_index", end, lengths.cumsum())
        self._require("dataset_from_index", first, lengths.cumsum() - lengths)
        return lengths

    def tasks(self) -> list[str]:
        listed = self._table["tasks"].to_pylist()
        self._refuse(np.array([not _is_one_text(tasks) for tasks in listed]), "tasks", listed)
        return [task for (task,) in listed]

    def paths(self, root: Path, template: str, slot: tuple[str, str], **fields: str) -> list[Path]:
        @cache  # one path for all the episodes in a file
        def path(chunk: int, file: int) -> Path:
            return root / template.format(chunk_index=chunk, file_index=file, **fields)

        return list(map(path, *(self._integers(name).tolist() for name in slot)))

    def spans(self, root: Path, camera: str, lengths: NDArray[np.int64]) -> tuple[VideoSpan, ...]:
        prefix = f"videos/{camera}/"
        paths = self.paths(root, VIDEO_PATH, tuple(prefix + name for name in VIDEO_SLOT), video_key=camera)
        firsts = _firsts_in_file(paths, lengths)
        # Exactly, as the bake divides the same whole numbers.
        for name, frames in zip(VIDEO_SPAN, (firsts, firsts + lengths), strict=True):
            self._require(prefix + name, self._table[prefix + name].to_numpy(), frames / self._fps)
        return tuple(map(VideoSpan, paths, firsts.tolist(), lengths.tolist()))

    def _integers(self, name: str) -> NDArray[np.int64]:
        return integers(self._tables[0], self._table, name)

    def _require(self, name: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
        wrong = np.flatnonzero(found != expected)
        if len(wrong):
            k = int(wrong[0])
            says = f"{name} is {found[k].item()}, expected {expected[k].item()} after the episodes before it"
            raise episode_error(self._tables[k], k, says)

    def _refuse(self, wrong: NDArray[np.bool_], name: str, found: Any) -> None:
        if wrong.any():
            k = int(wrong.argmax())
            value = found[k].item() if isinstance(found, np.ndarray) else found[k]
            raise episode_error(self._tables[k], k, f"{name} is {value}, which no bake writes")


def _firsts_in_file(paths: list[Path], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of each episode's first frame in its file, if the episodes in a file follow one another without gaps."""
    firsts = np.zeros(len(lengths), np.int64)
    for k in range(1, len(paths)):
        if paths[k] == paths[k - 1]:
            firsts[k] = firsts[k - 1] + lengths[k - 1]
    return firsts


def _of_v21(root: Path, cameras: list[str], fps: int) -> Places:
    table = root / writer_v21.EPISODES_FILE
    lines = read_lines(table)
    for k, line in enumerate(lines):
        if line.get("episode_index") != k:
            raise episode_error(table, k, f"line {k + 1} is about episode {line.get('episode_index')!r}")
        if type(line.get("length")) is not int or line["length"] < 1:
            raise episode_error(table, k, f"length is {line.get('length')!r}, which no bake writes")
        if not _is_one_text(line.get("tasks")):
            raise episode_error(table, k, f"tasks is {line.get('tasks')}, which no bake writes")
    _require_statistics_of_each(root / writer_v21.EPISODES_STATS_FILE, len(lines))
    return Places(
        lengths=np.array([line["length"] for line in lines], np.int64),
        tasks=[line["tasks"][0] for line in lines],
        tables=[table] * len(lines),
        data=[writer_v21.data_path(root, k) for k in range(len(lines))],
        videos={name: _v21_spans(root, name, lines) for name in cameras},
    )


def _v21_spans(root: Path, camera: str, lines: list[dict[str, Any]]) -> tuple[VideoSpan, ...]:
    return tuple(VideoSpan(writer_v21.video_path(root, k, camera), 0, line["length"]) for k, line in enumerate(lines))


def _require_statistics_of_each(path: Path, episodes: int) -> None:
    lines = read_lines(path)
    for k, line in enumerate(lines):
        if line.get("episode_index") != k or not isinstance(line.get("stats"), dict):
            raise episode_error(path, k, f"line {k + 1} holds no statistics of this episode")
    if len(lines) != episodes:
        raise PositronicError(f"{path} has {len(lines)} lines, expected one for each of {episodes} episodes. {AGAIN}")


def _is_one_text(tasks: Any) -> bool:
    return isinstance(tasks, list) and len(tasks) == 1 and isinstance(tasks[0], str)
