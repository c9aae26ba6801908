"""Numbered files of a LeRobot v3.0 dataset; each is filled up to a size before the next one begins."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from positronic.bake.video import Joiner

# LeRobot's own defaults (lerobot/datasets/utils.py).
CHUNK_SIZE = 1000  # files per folder
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
DATA_GROUP_ROWS = 1 << 13
MB = 1 << 20
MAX_VIDEO_SEC = 1000  # LeRobot compares float32 times to 1e-4 s; beyond 1024 s their steps are larger than that

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


class Slot(NamedTuple):
    """Where a file is."""

    chunk_index: int
    file_index: int

    @classmethod
    def of(cls, number: int) -> Slot:
        """The n-th file of its kind."""
        return cls(*divmod(number, CHUNK_SIZE))


def place(root: Path, template: str, slot: Slot, **fields: str) -> Path:
    """The file's path; its folder is made."""
    path = root / template.format(**fields, **slot._asdict())
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def count_files(root: Path, template: str, **fields: str) -> int:
    """How many files of a kind there are in ``root``."""
    pattern = re.sub(r"{\w+(:\w+)?}", "*", template.replace("{video_key}", fields.get("video_key", "")))
    return sum(1 for _ in root.glob(pattern))


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class ParquetFiles:
    """Tables one after another. After a file has reached ``limit_bytes`` the next one begins.

    A row group takes tables until it has ``group_rows`` rows: a file of many small groups takes longer to open than to
    read. Files that exist already are left alone and counted.
    """

    def __init__(
        self, root: Path, template: str, schema: pa.Schema, limit_bytes: int = DATA_FILE_MB * MB, group_rows: int = 1
    ) -> None:
        self._root, self._template, self._schema = root, template, schema
        self._limit, self._group_rows = limit_bytes, group_rows
        self._number = count_files(root, template) - 1
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0  # hundreds of short episodes may wait
        self._writer: pq.ParquetWriter | None = None
        self._sink: pa.NativeFile | None = None

    def slot(self) -> Slot:
        """Where the next table will go."""
        if self._sink is None or self._sink.tell() + self._waiting_bytes >= self._limit:
            self.close()
            self._number += 1
            self._sink = pa.OSFile(str(place(self._root, self._template, Slot.of(self._number))), "wb")
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="snappy")
        return Slot.of(self._number)

    def write(self, table: pa.Table) -> None:
        """Append a table with the schema."""
        self.slot()
        self._waiting.append(table)
        self._waiting_rows += len(table)
        self._waiting_bytes += table.nbytes
        if self._waiting_rows >= self._group_rows:
            self._write_group()

    def close(self) -> None:
        """Finish the current file."""
        if self._sink is not None:
            self._write_group()
            self._writer.close()
            self._sink.close()
            self._sink = None

    def _write_group(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


class VideoFiles:
    """Pieces of one camera, joined into files of up to ``limit_bytes`` and MAX_VIDEO_SEC. Existing files are left
    alone."""

    def __init__(self, root: Path, column: str, fps: int, limit_bytes: int = VIDEO_FILE_MB * MB) -> None:
        self._root, self._column, self._fps, self._limit = root, column, fps, limit_bytes
        self._number = count_files(root, VIDEO_PATH, video_key=column) - 1
        self._joiner: Joiner | None = None

    def append(self, piece: Path, frames: int) -> tuple[Slot, int]:
        """Join a piece of ``frames`` frames to the current file, or begin the next file with it. Returns the file and
        the number of the piece's first frame in it."""
        joiner = self._fitting(piece.stat().st_size, frames)
        first = joiner.frames
        joiner.append(piece, frames)
        return Slot.of(self._number), first

    def close(self) -> None:
        """Finish the current file."""
        if self._joiner is not None:
            self._joiner.close()
            self._joiner = None

    def _fitting(self, size: int, frames: int) -> Joiner:
        joiner = self._joiner
        full = joiner is None or joiner.bytes + size > self._limit or joiner.frames + frames > MAX_VIDEO_SEC * self._fps
        if full:
            self.close()
            self._number += 1
            self._joiner = Joiner(
                place(self._root, VIDEO_PATH, Slot.of(self._number), video_key=self._column), self._fps
            )
        return self._joiner
