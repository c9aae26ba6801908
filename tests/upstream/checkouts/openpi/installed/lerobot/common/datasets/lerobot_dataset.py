"""LeRobot's dataset of the revision that openpi pins (0cf8648): format v2.1 under HF_LEROBOT_HOME, otherwise the hub.

Frames are not decoded: a camera's file has to be there, its picture is black.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

HF_LEROBOT_HOME = Path(
    os.environ.get("HF_LEROBOT_HOME", Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "lerobot")
).expanduser()
CODEBASE_VERSION = "v2.1"


class OfflineModeIsEnabled(ConnectionError):  # noqa: N818  the hub's name
    """What the hub's client raises with HF_HUB_OFFLINE=1."""


OfflineModeIsEnabled.__module__ = "huggingface_hub.errors"


class LeRobotDatasetMetadata:
    def __init__(self, repo_id: str, root: str | None = None, revision: str | None = None) -> None:
        self.repo_id, self.root = repo_id, Path(root) if root else HF_LEROBOT_HOME / repo_id
        path = self.root / "meta" / "info.json"
        self.info = json.loads(path.read_text()) if path.exists() else {}
        if self.info.get("codebase_version") != CODEBASE_VERSION:
            _ask_hub(repo_id)
        self.episodes = self._lines("episodes.jsonl")
        self.tasks = {each["task_index"]: each["task"] for each in self._lines("tasks.jsonl")}
        self._lines("episodes_stats.jsonl")

    @property
    def fps(self) -> int:
        return self.info["fps"]

    def path(self, template: str, episode: int, **fields: str) -> Path:
        chunk = episode // self.info["chunks_size"]
        return self.root / self.info[template].format(episode_chunk=chunk, episode_index=episode, **fields)

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "meta" / name).read_text().splitlines()]


class LeRobotDataset:
    """``delta_timestamps``: column -> seconds; such a column is a chunk, its last row repeated beyond the episode."""

    def __init__(self, repo_id: str, root: str | None = None, delta_timestamps: dict[str, Any] | None = None) -> None:
        self.meta = LeRobotDatasetMetadata(repo_id, root)
        self._steps = {
            name: np.rint(np.asarray(seconds) * self.meta.fps).astype(int)
            for name, seconds in (delta_timestamps or {}).items()
        }
        features = self.meta.info["features"]
        self._cameras = [name for name, each in features.items() if each["dtype"] == "video"]
        self._shapes = {name: features[name]["shape"] for name in self._cameras}
        tables = []
        for each in self.meta.episodes:
            episode = each["episode_index"]
            tables.append(pq.ParquetFile(self.meta.path("data_path", episode)).read())
            for name in self._cameras:
                if not self.meta.path("video_path", episode, video_key=name).stat().st_size:
                    raise RuntimeError(f"Could not open video of {name}, episode {episode}")
        self._lengths = [len(table) for table in tables]
        names = [name for name in tables[0].column_names if name not in self._cameras]
        self._columns = {
            name: np.asarray([row for table in tables for row in table[name].to_pylist()], _dtype(features[name]))
            for name in names
        }
        self._ends = np.repeat(np.cumsum(self._lengths), self._lengths)

    def __len__(self) -> int:
        return sum(self._lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {}
        for name, values in self._columns.items():
            steps = self._steps.get(name)
            item[name] = values[index if steps is None else np.minimum(index + steps, self._ends[index] - 1)]
        for name, (height, width, channels) in self._shapes.items():
            item[name] = np.zeros((channels, height, width), np.float32)
        return item | {"task": self.meta.tasks[int(item["task_index"])]}


def get_safe_default_codec() -> str:
    return "torchcodec"


def _dtype(feature: dict[str, Any]) -> Any:
    return np.dtype(feature["dtype"])


def _ask_hub(repo_id: str) -> None:
    where = f"https://huggingface.co/api/datasets/{repo_id}/refs"
    if os.environ.get("HF_HUB_OFFLINE", "0") in ("0", ""):
        raise ConnectionError(f"HTTPSConnectionPool: Max retries exceeded with url: {where}")
    raise OfflineModeIsEnabled(
        f"Cannot reach {where}: offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment "
        "variable."
    )
