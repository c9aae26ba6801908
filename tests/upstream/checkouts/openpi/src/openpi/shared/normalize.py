"""Statistics and ``norm_stats.json``: ``{"norm_stats": {"state": {mean, std, q01, q99}, "actions": ...}}``.

Quantiles come from histograms of 5000 bins, here over all vectors at once.
"""

import json
import pathlib
from dataclasses import dataclass

import numpy as np

BINS = 5000


@dataclass
class NormStats:
    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray | None = None
    q99: np.ndarray | None = None


class RunningStats:
    def __init__(self) -> None:
        self._batches: list[np.ndarray] = []

    def update(self, batch: np.ndarray) -> None:
        """``batch`` (..., D)."""
        self._batches.append(batch.reshape(-1, batch.shape[-1]))

    def get_statistics(self) -> NormStats:
        vectors = np.concatenate(self._batches) if self._batches else np.zeros((0, 1))
        if len(vectors) < 2:
            raise ValueError("Cannot compute statistics for less than 2 vectors.")
        mean, squares = vectors.mean(0), (vectors**2).mean(0)
        q01, q99 = (np.array([_quantile(column, at) for column in vectors.T]) for at in (0.01, 0.99))
        return NormStats(mean, np.sqrt(np.maximum(0, squares - mean**2)), q01, q99)


def _quantile(column: np.ndarray, at: float) -> float:
    edges = np.linspace(column.min() - 1e-10, column.max() + 1e-10, BINS + 1)
    counts, _ = np.histogram(column, edges)
    return edges[np.searchsorted(np.cumsum(counts), at * len(column))]


def save(directory: pathlib.Path | str, norm_stats: dict[str, NormStats]) -> None:
    path = pathlib.Path(directory) / "norm_stats.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: {key: _listed(each) for key, each in vars(stats).items()} for name, stats in norm_stats.items()}
    path.write_text(json.dumps({"norm_stats": content}, indent=2))


def load(directory: pathlib.Path | str) -> dict[str, NormStats]:
    path = pathlib.Path(directory) / "norm_stats.json"
    if not path.exists():
        raise FileNotFoundError(f"Norm stats file not found at: {path}")
    found = json.loads(path.read_text())["norm_stats"]
    arrays = {
        name: {key: None if v is None else np.asarray(v) for key, v in each.items()} for name, each in found.items()
    }
    return {name: NormStats(**each) for name, each in arrays.items()}


def _listed(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else np.asarray(values, np.float64).tolist()
