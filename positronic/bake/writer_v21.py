"""The layout of a LeRobot dataset, format v2.1: one parquet file per episode, one mp4 per episode and camera. Upstream
GR00T and openpi read it.

Its readers use releases of Hugging Face's datasets before 4. GR00T's loader needs ``meta/stats.json``, which LeRobot's
own v2.1 does not write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from positronic import keys
from positronic.bake.columns import spooled
from positronic.bake.files import link
from positronic.bake.ledger import Ledger, PlacedEpisode
from positronic.bake.tables import data_schema, data_table, listed, write_json, write_stats

CHUNK_SIZE = 1000  # episodes per folder
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
EPISODES_FILE = "meta/episodes.jsonl"
EPISODES_STATS_FILE = "meta/episodes_stats.jsonl"
TASKS_FILE = "meta/tasks.jsonl"
EPISODE_STATS = ("min", "max", "mean", "std", "count")


class WriterV21:
    """Takes entries one after another, then ``finish``. Files that exist in ``root`` already stay as they are."""

    kept = ("data", "videos", EPISODES_FILE, EPISODES_STATS_FILE)
    """Files that an appended dataset shares with the old one. Lines are added to the last two."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root = root
        self._schema = data_schema(ledger.features, list_type="Sequence")
        (root / "meta").mkdir(exist_ok=True)
        self._episodes, self._stats = (
            (root / name).open("a", encoding="utf-8") for name in (EPISODES_FILE, EPISODES_STATS_FILE)
        )

    def write(self, entry: PlacedEpisode) -> None:
        """Write an episode; its pieces may be removed afterwards."""
        pq.write_table(data_table(self._schema, entry.columns), _with_folder(data_path(self.root, entry.index)))
        for name, piece in entry.pieces.items():
            link(piece, _with_folder(video_path(self.root, entry.index, name)))
        _add_line(self._episodes, {"episode_index": entry.index, "tasks": [entry.task], "length": entry.length})
        stats = {name: {key: listed(each)[key] for key in EPISODE_STATS} for name, each in entry.stats.items()}
        _add_line(self._stats, {"episode_index": entry.index, "stats": stats})

    def finish(self, ledger: Ledger) -> None:
        """Write all meta data."""
        self.close()
        write_json(self.root / keys.INFO_FILE, _info(ledger))
        with spooled(self.root, ledger.vectors, ledger.held_out) as spool:
            write_stats(self.root, ledger.stats(spool))
        with (self.root / TASKS_FILE).open("w", encoding="utf-8") as file:
            for task, index in ledger.tasks.items():
                _add_line(file, {"task_index": index, "task": task})

    def close(self) -> None:
        """Close all files; may be called again."""
        self._episodes.close()
        self._stats.close()


def data_path(root: Path, index: int) -> Path:
    """The rows of episode ``index`` in the dataset in ``root``."""
    return root / _name(DATA_PATH, index)


def video_path(root: Path, index: int, camera: str) -> Path:
    """The frames of episode ``index`` in the dataset in ``root``."""
    return root / _name(VIDEO_PATH, index, video_key=camera)


def _name(template: str, index: int, **fields: str) -> str:
    return template.format(episode_chunk=index // CHUNK_SIZE, episode_index=index, **fields)


def _with_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _info(ledger: Ledger) -> dict[str, Any]:
    episodes = len(ledger.lengths)
    return {
        "codebase_version": keys.FORMAT_V21,
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": ledger.frames,
        "total_tasks": len(ledger.tasks),
        "total_videos": episodes * len(ledger.cameras),
        "total_chunks": -(-episodes // CHUNK_SIZE),
        "chunks_size": CHUNK_SIZE,
        "fps": ledger.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if ledger.cameras else None,
        "features": ledger.features,
    }


def _add_line(file: Any, content: Any) -> None:
    file.write(json.dumps(content, ensure_ascii=False) + "\n")
