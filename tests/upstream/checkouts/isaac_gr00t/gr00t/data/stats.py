"""Statistics beside a dataset: ``meta/stats.json``, rewritten only if it lacks something, and
``meta/relative_stats.json``, always written, in which a part that is there is never computed again."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.configs.data.embodiment_configs import MODALITY_CONFIGS
from gr00t.data.dataset.lerobot_episode_loader import LeRobotEpisodeLoader
from gr00t.data.types import ActionRepresentation, ActionType

NUMBERS = ("min", "max", "mean", "std", "q01", "q99")


def generate_stats(root: Path) -> None:
    """Every column of floats needs all of NUMBERS."""
    print(f"Generating stats for {root}")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    path = root / "meta/stats.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    wanted = [name for name, feature in features.items() if "float" in feature["dtype"]]
    if all(number in found.get(name, {}) for name in wanted for number in NUMBERS):
        return
    import pyarrow.parquet as pq

    tables = [pq.ParquetFile(each).read(columns=wanted) for each in sorted(root.glob("data/*/*.parquet"))]
    columns = {name: [row for table in tables for row in table[name].to_pylist()] for name in wanted}
    stats = {name: numbers(np.asarray(rows, np.float32).reshape(len(rows), -1)) for name, rows in columns.items()}
    path.write_text(json.dumps(stats, indent=4))


def generate_rel_stats(root: Path, tag: str) -> None:
    """Raises PermissionError for a folder that may not be written to."""
    action, path = MODALITY_CONFIGS[tag]["action"], root / "meta/relative_stats.json"
    stats = json.loads(path.read_text()) if path.exists() else {}
    for key, config in sorted(zip(action.modality_keys, action.action_configs or [], strict=False)):
        if config.rep is ActionRepresentation.RELATIVE and key not in stats:
            print(f"Generating relative stats for {root} {tag} {key}")
            stats[key] = numbers(_labels(root, tag, key, config))
    path.write_text(json.dumps(stats, indent=4))


def _labels(root: Path, tag: str, key: str, config: Any) -> np.ndarray:
    """(frames, H, D) of the frames with a whole chunk: what each step is beyond the state at its start."""
    configs = MODALITY_CONFIGS[tag]
    loader, steps = LeRobotEpisodeLoader(root, configs), np.asarray(configs["action"].delta_indices)
    found = []
    for number in range(len(loader)):
        episode = loader[number]
        states, actions = episode[f"state.{config.state_key or key}"], episode[f"action.{key}"]
        frames = np.arange(len(states) - steps[-1])
        if config.type is ActionType.EEF:
            found += [_beyond_pose(states[frame], actions[frame + steps]) for frame in frames]
        else:
            found += [actions[frame + steps] - states[frame] for frame in frames]
    return np.asarray(found, np.float32)


def _beyond_pose(state: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Position and the first two rows of the rotation, in the frame of the state's pose (9,)."""
    frame, rotations = _rotation(state[3:]), np.stack([_rotation(each[3:]) for each in actions])
    positions = (actions[:, :3] - state[:3]) @ frame
    return np.concatenate([positions, (frame.T @ rotations)[:, :2].reshape(len(actions), 6)], -1)


def _rotation(rows: np.ndarray) -> np.ndarray:
    first = rows[:3] / np.linalg.norm(rows[:3])
    second = rows[3:] - (first @ rows[3:]) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def numbers(values: np.ndarray) -> dict[str, Any]:
    """NUMBERS over the first axis."""
    found = {name: getattr(values, name)(axis=0) for name in ("min", "max", "mean", "std")}
    found |= {name: np.quantile(values, at, axis=0) for name, at in (("q01", 0.01), ("q99", 0.99))}
    return {name: each.tolist() for name, each in found.items()}
