"""A recording's actions, without a model: the same episode for every robot of a batch, on by execution_horizon a
call."""

from typing import Any

import numpy as np

from gr00t.data.dataset.lerobot_episode_loader import LeRobotEpisodeLoader
from gr00t.data.types import ModalityConfig
from gr00t.policy.policy import BasePolicy


class ReplayPolicy(BasePolicy):
    def __init__(
        self, dataset_path: str, modality_configs: dict[str, ModalityConfig], horizon: int, strict: bool
    ) -> None:
        super().__init__(modality_configs, strict)
        loader = LeRobotEpisodeLoader(dataset_path, modality_configs)
        self._episode, self._horizon, self._step = loader[0], horizon, 0

    def reset(self, options: dict[str, Any] | None = None) -> dict[str, Any]:
        self._step = 0
        return {"current_step": 0, "episode_index": 0}

    def _get_action(self, observation: dict[str, Any], options: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        config = self.modality_configs["action"]
        size = len(observation["video"][self.modality_configs["video"].modality_keys[0]])
        actions = {}
        for key in config.modality_keys:
            values = self._episode[f"action.{key}"]
            rows = np.minimum(self._step + np.arange(len(config.delta_indices)), len(values) - 1)
            actions[key] = np.tile(values[rows][None], (size, 1, 1))
        info = {"current_step": self._step, "episode_length": len(values), "episode_index": 0}
        self._step += self._horizon
        return actions, info
