"""A checkpoint served. In place of the model: a part of the action is the state's part of its name (or state_key),
repeated, its first number 0.001 larger with each step; a part without such a state is the mean of its statistics.

That it is a part's last state, absolute, in physical units, holds for relative parts too. Nothing is clipped.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.types import ModalityConfig
from gr00t.policy.policy import BasePolicy

STEP = np.float32(0.001)


class Gr00tPolicy(BasePolicy):
    """Raises OSError for a folder that is no checkpoint, KeyError for a tag that it was not trained with."""

    def __init__(self, embodiment_tag: EmbodimentTag, model_path: str, *, device: str, strict: bool = True) -> None:
        folder, tag = Path(model_path), embodiment_tag.value
        if not list(folder.glob("model*.safetensors")):
            raise OSError(f"Error no file named model.safetensors, or pytorch_model.bin, found in directory {folder}.")
        json.loads((folder / "config.json").read_text())
        processor = json.loads((folder / "processor_config.json").read_text())["processor_kwargs"]
        configs = {kind: ModalityConfig(**each) for kind, each in processor["modality_configs"][tag].items()}
        super().__init__(configs, strict)
        self._means = json.loads((folder / "statistics.json").read_text())[tag]["action"]
        json.loads((folder / "embodiment_id.json").read_text())[tag]

    def _get_action(self, observation: dict[str, Any], options: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        states, config = observation["state"], self.modality_configs["action"]
        size, horizon, actions = len(next(iter(states.values()))), len(config.delta_indices), {}
        said = config.action_configs or [None] * len(config.modality_keys)
        for key, each in zip(config.modality_keys, said, strict=True):
            state = states.get((each.state_key if each else None) or key)
            start = np.broadcast_to(self._means[key]["mean"], (size, len(self._means[key]["mean"])))
            start = start if state is None else state[:, -1]
            actions[key] = np.repeat(start[:, None].astype(np.float32), horizon, axis=1)
            actions[key][..., 0] += STEP * np.arange(horizon, dtype=np.float32)
        return actions, {}
