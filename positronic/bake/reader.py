"""Reading a baked dataset (LeRobot v3.0 layout): vectors as tables in memory, and where each frame is.

An own reader, not lerobot's: gathering an action chunk there is a row access per step in Python, which costs as much
as decoding the frames.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic import keys
from positronic.bake.columns import DATA_FILES
from positronic.bake.manifest import Manifest, read_manifest
from positronic.bake.writer_v30 import EPISODES_FILES, TASKS_FILE
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError, listing

SPAN = ("dataset_from_index", "dataset_to_index")
VIDEO_KEYS = ("chunk_index", "file_index", "from_timestamp")

Stats = dict[str, dict[str, NDArray[np.float64]]]
"""column -> min, max, mean, std, q01, ... as the bake wrote them; images (3, 1, 1) in 0..1."""


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames are: ``first`` is the number of its first frame within the file at ``path``."""

    path: Path
    first: int
    count: int


@dataclass(frozen=True, eq=False)
class BakedDataset:
    """N frames of E episodes, one after another.

    ``vectors``: column -> float32 (N, D). ``starts``, ``ends``: int64 (E,), an episode is the rows ``start:end``.
    ``videos``: image column -> one span per episode. ``task_of``: int64 (N,) into ``tasks``.
    """

    root: Path
    recipe: Recipe
    manifest: Manifest
    vectors: dict[str, NDArray[np.float32]]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    videos: dict[str, tuple[VideoSpan, ...]]
    tasks: tuple[str, ...]
    task_of: NDArray[np.int64]
    stats: Stats

    def __len__(self) -> int:
        return len(self.task_of)

    @property
    def fps(self) -> int:
        """Frames a second."""
        return self.manifest.fps

    @property
    def image_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Image column -> (height, width, 3)."""
        return {column.name: column.shape for column in self.recipe.modality.image_columns}

    @property
    def decoded_bytes(self) -> int:
        """Size of all frames as uint8."""
        return len(self) * sum(int(np.prod(shape)) for shape in self.image_shapes.values())

    @cached_property
    def episode_of(self) -> NDArray[np.int64]:
        """int64 (N,): the episode that each row belongs to."""
        return np.repeat(np.arange(len(self.starts)), self.ends - self.starts)


def open_baked(root: Path) -> BakedDataset:
    """Read everything but the frames.

    Raises PositronicError when the dataset is incomplete, holds no frames, or is not what its manifest says.
    """
    manifest = read_manifest(root)
    if manifest.dataset_format != keys.FORMAT_V30:
        raise PositronicError(
            f"{root} is in format {manifest.dataset_format}, which other trainers read; training here needs "
            f"{keys.FORMAT_V30}. Convert with dataset_format={keys.FORMAT_V30}."
        )
    recipe = manifest.load_recipe()
    info = json.loads(_required(root / keys.INFO_FILE).read_text())
    rows = _read_rows(root, [column.name for column in recipe.modality.vector_columns])
    if not len(rows):
        raise PositronicError(f"{root} holds no frames, nothing to train on. Convert a dataset that has episodes.")
    episodes = _read_parts(root, EPISODES_FILES, [*SPAN, *_video_columns(recipe)])
    starts, ends = (_numbers(episodes, name) for name in SPAN)
    _check_rows(root, rows, starts, ends)
    return BakedDataset(
        root=root,
        recipe=recipe,
        manifest=manifest,
        vectors={c.name: _vectors(root, rows, c.name, c.shape[0]) for c in recipe.modality.vector_columns},
        starts=starts,
        ends=ends,
        videos={c.name: _spans(root, info, episodes, c.name) for c in recipe.modality.image_columns},
        tasks=_tasks(root),
        task_of=_numbers(rows, "task_index"),
        stats=_stats(root, [column.name for column in recipe.modality.columns]),
    )


def _required(path: Path) -> Path:
    if not path.is_file():
        raise PositronicError(f"{path} is missing, so this is not a whole baked dataset. Convert it again.")
    return path


def _read_parts(root: Path, pattern: str, columns: list[str]) -> pa.Table:
    paths = sorted(root.glob(pattern))
    if not paths:
        raise PositronicError(f"{root} has no {pattern}, so this is not a whole baked dataset. Convert it again.")
    tables = []
    for path in paths:
        with pq.ParquetFile(path) as file:  # an eighth of read_table's time where every episode is a row group
            found = file.schema_arrow.names
            missing = [name for name in columns if name not in found]
            if missing:
                raise PositronicError(f"{path}: expected column '{missing[0]}', found {listing(found)}. Convert again.")
            tables.append(file.read(columns=columns))
    return pa.concat_tables(tables)


def _video_columns(recipe: Recipe) -> list[str]:
    return [f"videos/{column.name}/{key}" for column in recipe.modality.image_columns for key in VIDEO_KEYS]


def _read_rows(root: Path, vector_names: list[str]) -> pa.Table:
    return _read_parts(root, DATA_FILES, ["index", "task_index", *vector_names])


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    return table[name].to_numpy().astype(np.int64)


def _vectors(root: Path, rows: pa.Table, name: str, size: int) -> NDArray[np.float32]:
    """A vector column as (N, D); lerobot stores one number a row as a plain column."""
    flat = rows[name].combine_chunks()
    while isinstance(flat, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray | pa.ChunkedArray):
        flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat.flatten()
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if len(values) != len(rows) * size:
        raise PositronicError(f"{root}: column '{name}' should hold {size} numbers a row. Convert the dataset again.")
    values = np.ascontiguousarray(values.reshape(len(rows), size))
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise PositronicError(
            f"{root}: column '{name}' is not a finite number in row {row}. Convert the dataset again."
        )
    return values


def _check_rows(root: Path, rows: pa.Table, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    whole = len(starts) > 0 and starts[0] == 0 and ends[-1] == len(rows) and np.array_equal(starts[1:], ends[:-1])
    if not whole or not np.array_equal(_numbers(rows, "index"), np.arange(len(rows))):
        raise PositronicError(f"{root}: the episodes do not cover its {len(rows)} rows. Convert the dataset again.")


def _spans(root: Path, info: dict[str, Any], episodes: pa.Table, column: str) -> tuple[VideoSpan, ...]:
    prefix = f"videos/{column}"
    start, end = (_numbers(episodes, name) for name in SPAN)
    places = zip(
        _numbers(episodes, f"{prefix}/chunk_index"),
        _numbers(episodes, f"{prefix}/file_index"),
        episodes[f"{prefix}/from_timestamp"].to_numpy(),
        end - start,
        strict=True,
    )
    template = info["video_path"]

    @cache  # one path for all the episodes in a file
    def path(chunk: int, file: int) -> Path:
        return root / template.format(video_key=column, chunk_index=chunk, file_index=file)

    return tuple(
        VideoSpan(path(int(chunk), int(file)), round(float(start_sec) * info["fps"]), int(count))
        for chunk, file, start_sec, count in places
    )


def _tasks(root: Path) -> tuple[str, ...]:
    """Task strings by ``task_index``. The strings are the index of a pandas frame, whose column name varies."""
    table = pq.read_table(_required(root / TASKS_FILE)).sort_by("task_index")
    name = next(name for name in table.column_names if name != "task_index")
    return tuple(table[name].to_pylist())


def _stats(root: Path, columns: list[str]) -> Stats:
    stats = json.loads(_required(root / keys.STATS_FILE).read_text())
    missing = [name for name in columns if name not in stats]
    if missing:
        raise PositronicError(
            f"{root / keys.STATS_FILE} has no statistics of '{missing[0]}'. Convert the dataset again."
        )
    return {name: {key: np.asarray(value) for key, value in stats[name].items()} for name in columns}
