"""A LeRobot dataset of format v2.x, episode by episode; the vectors of ``meta/modality.json`` only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

DEFAULT_COLUMNS = {"state": "observation.state", "action": "action"}


class LeRobotEpisodeLoader:
    """Raises FileNotFoundError for what is not there, ValueError for another format."""

    def __init__(self, dataset_path: str | Path, modality_configs: dict[str, Any]) -> None:
        self.root = Path(dataset_path)
        self.modality_configs = modality_configs
        self.info = json.loads((self.root / "meta/info.json").read_text())
        if not self.info["codebase_version"].startswith("v2"):
            raise ValueError(f"Expected a dataset of format v2.x, got {self.info['codebase_version']}")
        self.modality = json.loads((self.root / "meta/modality.json").read_text())
        lines = (self.root / "meta/episodes.jsonl").read_text().splitlines()
        self.lengths = {each["episode_index"]: each["length"] for each in map(json.loads, lines)}
        (self.root / "meta/tasks.jsonl").read_text()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, episode: int) -> dict[str, np.ndarray]:
        """``state.<key>`` and ``action.<key>`` -> (length, D). Raises FileNotFoundError for a missing video."""
        table = pq.ParquetFile(self._path("data_path", episode)).read()
        assert len(table) == self.lengths[episode], (
            f"Episode {episode}: {len(table)} rows, {self.lengths[episode]} told"
        )
        for key in self.modality_configs["video"].modality_keys if "video" in self.modality_configs else ():
            camera = self.modality["video"][key].get("original_key", f"observation.images.{key}")
            if not self._path("video_path", episode, video_key=camera).stat().st_size:
                raise RuntimeError(f"Could not open {self._path('video_path', episode, video_key=camera)}")
        parts = [(kind, key) for kind in ("state", "action") for key in self.modality_configs[kind].modality_keys]
        return {f"{kind}.{key}": self.cut(kind, key, self._column(table, kind, key)) for kind, key in parts}

    def cut(self, kind: str, key: str, values: np.ndarray) -> np.ndarray:
        """The part's slice of its column, whose numbers are last."""
        part = self.modality[kind][key]
        return values[..., part["start"] : part["end"]]

    def column(self, kind: str, key: str) -> str:
        return self.modality[kind][key].get("original_key", DEFAULT_COLUMNS[kind])

    def _column(self, table: Any, kind: str, key: str) -> np.ndarray:
        rows = table[self.column(kind, key)].to_pylist()
        return np.asarray(rows, np.float32).reshape(len(rows), -1)

    def _path(self, template: str, episode: int, **fields: str) -> Path:
        chunk = episode // self.info["chunks_size"]
        return self.root / self.info[template].format(episode_chunk=chunk, episode_index=episode, **fields)
