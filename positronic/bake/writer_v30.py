"""Writes a LeRobot dataset, format v3.0: many episodes per file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic.bake import features, statistics
from positronic.bake.episode import BakedEpisode
from positronic.bake.files import (
    CHUNK_SIZE,
    DATA_FILE_MB,
    DATA_PATH,
    EPISODES_PATH,
    VIDEO_FILE_MB,
    VIDEO_PATH,
    ParquetFiles,
    VideoFiles,
)
from positronic.bake.frames import empty_histogram
from positronic.bake.statistics import Stats

VERSION = "v3.0"
INFO_FILE = "meta/info.json"
STATS_FILE = "meta/stats.json"
TASKS_FILE = "meta/tasks.parquet"
EPISODES_PER_GROUP = 100
BLOCK_ROWS = 1 << 16


class WriterV30:
    """Episodes in, one after another, then ``finish``. ``features``: as ``features.lerobot_features`` gives them."""

    def __init__(self, root: Path, fps: int, feature_info: Mapping[str, dict[str, Any]]) -> None:
        self.root, self.fps, self.features = root, fps, dict(feature_info)
        self.frames = 0
        self.lengths: list[int] = []
        self.tasks: dict[str, int] = {}
        self.task_frames: list[int] = []
        self._data = ParquetFiles(root, DATA_PATH, data_schema(self.features))
        cameras = [name for name, feature in self.features.items() if feature["dtype"] == "video"]
        self._videos = {name: VideoFiles(root, name, fps) for name in cameras}
        self._histograms = {name: empty_histogram() for name in cameras}
        self._rows: list[dict[str, Any]] = []
        self._episodes: ParquetFiles | None = None

    def add(self, episode: BakedEpisode) -> None:
        """Append an episode; its pieces can be removed afterwards."""
        columns = self._columns(episode)
        slot = self._data.slot()
        self._data.write(_data_table(self.features, columns))
        row = {"episode_index": len(self.lengths), "tasks": [episode.task], "length": episode.length}
        row |= {"data/chunk_index": slot.chunk_index, "data/file_index": slot.file_index}
        row |= {"dataset_from_index": self.frames, "dataset_to_index": self.frames + episode.length}
        for name, piece in episode.pieces.items():
            span = self._videos[name].append(piece, episode.length)
            row |= {
                f"videos/{name}/chunk_index": span.slot.chunk_index,
                f"videos/{name}/file_index": span.slot.file_index,
            }
            row |= {
                f"videos/{name}/from_timestamp": span.from_timestamp,
                f"videos/{name}/to_timestamp": span.to_timestamp,
            }
        self._add_row(row | _flat_stats(self._episode_stats(columns, episode)))
        self._account(episode)

    def finish(self) -> dict[str, Stats]:
        """Write what is left and all meta data. Returns the statistics over all frames."""
        self._flush_rows()
        self.close()
        stats = self._total_stats()
        _write_json(self.root / INFO_FILE, self._info())
        _write_json(self.root / STATS_FILE, {name: _listed(values) for name, values in stats.items()})
        _write_tasks(self.root / TASKS_FILE, list(self.tasks))
        return stats

    def close(self) -> None:
        """Close all files; may be called again."""
        for files in (self._data, self._episodes, *self._videos.values()):
            if files is not None:
                files.close()

    def _columns(self, episode: BakedEpisode) -> dict[str, NDArray[Any]]:
        steps = np.arange(episode.length, dtype=np.int64)
        task = self.tasks.setdefault(episode.task, len(self.tasks))
        return episode.columns | {
            features.TIMESTAMP: (steps / self.fps).astype(np.float32),
            features.FRAME_INDEX: steps,
            features.EPISODE_INDEX: np.full(episode.length, len(self.lengths)),
            features.INDEX: self.frames + steps,
            features.TASK_INDEX: np.full(episode.length, task),
        }

    def _account(self, episode: BakedEpisode) -> None:
        self.frames += episode.length
        self.lengths.append(episode.length)
        self.task_frames += [0] * (len(self.tasks) - len(self.task_frames))
        self.task_frames[self.tasks[episode.task]] += episode.length
        for name, counts in episode.histograms.items():
            self._histograms[name] += counts

    def _episode_stats(self, columns: Mapping[str, NDArray[Any]], episode: BakedEpisode) -> dict[str, Stats]:
        images = episode.histograms
        return {
            name: statistics.of_histograms(images[name], episode.length)
            if name in images
            else statistics.of_rows(columns[name])
            for name in self.features
        }

    def _add_row(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= EPISODES_PER_GROUP:
            self._flush_rows()

    def _flush_rows(self) -> None:
        if not self._rows:
            return
        if self._episodes is None:
            self._episodes = ParquetFiles(self.root, EPISODES_PATH, _episodes_schema(self._rows[0]))
        slot = self._episodes.slot()
        where = {"meta/episodes/chunk_index": slot.chunk_index, "meta/episodes/file_index": slot.file_index}
        rows = [row | where for row in self._rows]
        self._episodes.write(pa.Table.from_pylist(rows, schema=_episodes_schema(self._rows[0])))
        self._rows = []

    def _total_stats(self) -> dict[str, Stats]:
        stats = {}
        for name, feature in self.features.items():
            if name in self._histograms:
                stats[name] = statistics.of_histograms(self._histograms[name], self.frames)
            elif name not in features.BOOKKEEPING:
                stats[name] = statistics.of_blocks(lambda name=name, feature=feature: self._blocks(name, feature))
        return stats | self._bookkeeping_stats()

    def _bookkeeping_stats(self) -> dict[str, Stats]:
        lengths = np.array(self.lengths)
        steps = np.arange(lengths.max())
        alive = np.array([len(lengths), *(len(lengths) - np.bincount(lengths).cumsum()[1:-1])])
        return {
            features.TIMESTAMP: statistics.of_counts((steps / self.fps).astype(np.float32), alive),
            features.FRAME_INDEX: statistics.of_counts(steps, alive),
            features.EPISODE_INDEX: statistics.of_counts(np.arange(len(lengths)), lengths),
            features.INDEX: statistics.of_range(self.frames),
            features.TASK_INDEX: statistics.of_counts(np.arange(len(self.tasks)), np.array(self.task_frames)),
        }

    def _blocks(self, name: str, feature: Mapping[str, Any]) -> Iterator[NDArray[np.float32]]:
        """The column as written, in blocks of rows."""
        for path in sorted((self.root / "data").glob("*/*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(BLOCK_ROWS, columns=[name]):
                column = batch.column(0)
                flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
                yield flat.to_numpy(zero_copy_only=False).reshape(len(batch), -1)

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "fps": self.fps,
            "features": self.features,
            "total_episodes": len(self.lengths),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK_SIZE,
            "data_files_size_in_mb": DATA_FILE_MB,
            "video_files_size_in_mb": VIDEO_FILE_MB,
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._videos else None,
            "robot_type": None,
            "splits": {"train": f"0:{len(self.lengths)}"},
        }


def data_schema(feature_info: Mapping[str, dict[str, Any]]) -> pa.Schema:
    """The schema of the data files, with the metadata by which Hugging Face's datasets knows the columns."""
    fields, described = [], {}
    for name, feature in feature_info.items():
        if feature["dtype"] == "video":
            continue
        (size,), value = feature["shape"], {"dtype": feature["dtype"], "_type": "Value"}
        kind = pa.type_for_alias(feature["dtype"])
        described[name] = value if size == 1 else {"feature": value, "length": size, "_type": "List"}
        fields.append(pa.field(name, kind if size == 1 else pa.list_(pa.field("element", kind), size)))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def _data_table(feature_info: Mapping[str, dict[str, Any]], columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    schema = data_schema(feature_info)
    return pa.table([_array(columns[field.name], field.type) for field in schema], schema=schema)


def _array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=kind) if pa.types.is_fixed_size_list(kind) else flat


def _flat_stats(stats: Mapping[str, Stats]) -> dict[str, Any]:
    return {f"stats/{name}/{key}": value for name, each in stats.items() for key, value in _listed(each).items()}


def _listed(stats: Stats) -> dict[str, list]:
    return {key: value.tolist() for key, value in stats.items()}


def _episodes_schema(row: Mapping[str, Any]) -> pa.Schema:
    fields = [pa.field(name, pa.infer_type([value])) for name, value in row.items()]
    return pa.schema([*fields, ("meta/episodes/chunk_index", pa.int64()), ("meta/episodes/file_index", pa.int64())])


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_tasks(path: Path, tasks: list[str]) -> None:
    """A table that pandas reads with the task as its index, as LeRobot expects."""
    columns = [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
