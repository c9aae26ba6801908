"""The layout of a LeRobot dataset, format v3.0: many episodes per file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from positronic import keys
from positronic.bake.columns import spooled
from positronic.bake.files import (
    CHUNK_SIZE,
    DATA_FILE_MB,
    DATA_GROUP_ROWS,
    DATA_PATH,
    EPISODES_PATH,
    VIDEO_FILE_MB,
    VIDEO_PATH,
    ParquetFiles,
    VideoFiles,
)
from positronic.bake.ledger import Ledger, PlacedEpisode
from positronic.bake.statistics import Stats
from positronic.bake.tables import data_schema, data_table, listed, write_json, write_stats

TASKS_FILE = "meta/tasks.parquet"
EPISODES_FILES = "meta/episodes/*/*.parquet"
EPISODES_PER_GROUP = 100


class WriterV30:
    """Takes entries one after another, then ``finish``. Files that exist in ``root`` already stay as they are."""

    kept = ("data", "videos", "meta/episodes")
    """Files that an appended dataset shares with the old one."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root = root
        self._fps = ledger.fps
        self._schema = data_schema(ledger.features, list_type="List")
        self._data = ParquetFiles(root, DATA_PATH, self._schema, group_rows=DATA_GROUP_ROWS)
        self._videos = {name: VideoFiles(root, name, ledger.fps) for name in ledger.cameras}
        self._rows: list[dict[str, Any]] = []
        self._episodes: ParquetFiles | None = None

    def write(self, entry: PlacedEpisode) -> None:
        """Append an episode; its pieces are not needed afterwards."""
        slot = self._data.slot()
        self._data.write(data_table(self._schema, entry.columns))
        row = {"episode_index": entry.index, "tasks": [entry.task], "length": entry.length}
        row |= {"data/chunk_index": slot.chunk_index, "data/file_index": slot.file_index}
        row |= {"dataset_from_index": entry.first, "dataset_to_index": entry.first + entry.length}
        for name, piece in entry.pieces.items():
            row |= self._join(name, piece, entry.length)
        self._add_row(row | _flat_stats(entry.stats))

    def finish(self, ledger: Ledger) -> None:
        """Write what is left and all meta data."""
        self._flush_rows()
        self.close()
        write_json(self.root / keys.INFO_FILE, _info(ledger))
        with spooled(self.root, ledger.vectors, ledger.held_out) as spool:
            write_stats(self.root, ledger.stats(spool))
        _write_tasks(self.root / TASKS_FILE, list(ledger.tasks))

    def close(self) -> None:
        """Close all files; may be called again."""
        for files in (self._data, self._episodes, *self._videos.values()):
            if files is not None:
                files.close()

    def _join(self, name: str, piece: Path, frames: int) -> dict[str, Any]:
        slot, first = self._videos[name].append(piece, frames)
        return {
            f"videos/{name}/chunk_index": slot.chunk_index,
            f"videos/{name}/file_index": slot.file_index,
            f"videos/{name}/from_timestamp": first / self._fps,
            f"videos/{name}/to_timestamp": (first + frames) / self._fps,
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


def _info(ledger: Ledger) -> dict[str, Any]:
    return {
        "codebase_version": keys.FORMAT_V30,
        "fps": ledger.fps,
        "features": ledger.features,
        "total_episodes": len(ledger.lengths),
        "total_frames": ledger.frames,
        "total_tasks": len(ledger.tasks),
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if ledger.cameras else None,
        "robot_type": None,
        "splits": {"train": f"0:{len(ledger.lengths)}"},
    }


def _flat_stats(stats: Mapping[str, Stats]) -> dict[str, Any]:
    return {f"stats/{name}/{key}": value for name, each in stats.items() for key, value in listed(each).items()}


def _episodes_schema(row: Mapping[str, Any]) -> pa.Schema:
    fields = [pa.field(name, pa.infer_type([value])) for name, value in row.items()]
    return pa.schema([*fields, ("meta/episodes/chunk_index", pa.int64()), ("meta/episodes/file_index", pa.int64())])


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
