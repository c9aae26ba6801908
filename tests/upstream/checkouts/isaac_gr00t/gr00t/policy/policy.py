"""What both policies share: the strict checks, and how they go wrong if told."""

from typing import Any

import numpy as np

from gr00t import standin
from gr00t.data.types import ModalityConfig


class BasePolicy:
    def __init__(self, modality_configs: dict[str, ModalityConfig], strict: bool) -> None:
        self.modality_configs, self.strict, self._calls = modality_configs, strict, 0
        assert len(modality_configs["language"].modality_keys) == 1, "Only one language key is supported"

    def get_modality_config(self) -> dict[str, ModalityConfig]:
        return self.modality_configs

    def get_action(self, observation: dict[str, Any], options: dict[str, Any] | None = None) -> Any:
        """``({part: (B, H, D) float32}, info)``. Raises AssertionError for an observation that it does not take."""
        self._calls += 1
        if self.strict:
            check_observation(self.modality_configs, observation)
        return _spoilt(self._calls, *self._get_action(observation, options))

    def reset(self, options: dict[str, Any] | None = None) -> dict[str, Any]:
        return {}

    def _get_action(self, observation: dict[str, Any], options: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        raise NotImplementedError


def check_observation(configs: dict[str, ModalityConfig], observation: dict[str, Any]) -> None:
    """Cameras and states beyond the configured ones are let through."""
    for modality in ("video", "state", "language"):
        assert modality in observation, f"Observation must contain a '{modality}' key"
        found = observation[modality]
        assert isinstance(found, dict), f"Observation '{modality}' must be a dictionary. Got {type(found)}: {found}"
    size = -1
    for kind, dtype, axes in (("video", np.uint8, "(B, T, H, W, C)"), ("state", np.float32, "(B, T, D)")):
        for key in configs[kind].modality_keys:
            size = _check_array(f"{kind.capitalize()} key '{key}'", key, observation[kind], dtype, axes, size)
            array, steps = observation[kind][key], len(configs[kind].delta_indices)
            name = f"{kind.capitalize()} key '{key}'"
            assert array.shape[1] == steps, f"{name}'s horizon must be {steps}. Got {array.shape[1]}"
            if kind == "video":
                assert array.shape[-1] == 3, f"{name}'s channel 'C' must be 3. Got {array.shape[-1]}"
    _check_texts(configs["language"], observation["language"], size)


def _check_array(name: str, key: str, arrays: dict[str, Any], dtype: Any, axes: str, size: int) -> int:
    if standin.version() == "n1.6":
        arrays[key]  # whose KeyError is all that it says
    assert key in arrays, f"{name} must be in observation"
    array = arrays[key]
    assert size in (-1, len(array)), f"{name} must have batch size {size}. Got {len(array)}"
    assert isinstance(array, np.ndarray), f"{name} must be a numpy array. Got {type(array)}"
    wanted = f"np.{np.dtype(dtype).name}"
    assert array.dtype == dtype, f"{name} must be a numpy array of type {wanted}. Got {array.dtype}"
    assert array.ndim == axes.count(",") + 1, f"{name} must be a numpy array of shape {axes}, got {array.shape}"
    return len(array)


def _check_texts(config: ModalityConfig, texts: dict[str, Any], size: int) -> None:
    for key in config.modality_keys:
        assert key in texts, f"Language key '{key}' must be in observation"
        found = texts[key]
        assert len(found) == size, f"Language key '{key}' must have batch size {size}. Got {len(found)}"
        assert isinstance(found, list), f"Language key '{key}' must be a list. Got {type(found)}"
        for item in found:
            assert isinstance(item, list), f"Language batch item must be a list. Got {type(item)}"
            assert len(item) == 1, f"Language batch item must have exactly one item. Got {len(item)}"
            assert isinstance(item[0], str), f"Language batch item must be a string. Got {type(item[0])}"


def _spoilt(call: int, actions: dict[str, np.ndarray], info: dict[str, Any]) -> Any:
    """The answer, or what ``answers`` in standin.json makes of it."""
    told = next((each for each in standin.told("answers", []) if each.get("call", call) == call), {"kind": None})
    part = next(iter(actions))
    match told["kind"]:
        case "error":
            raise RuntimeError(told.get("text", "CUDA error: device-side assert triggered"))
        case "out_of_memory":
            standin.out_of_memory()
        case "death":
            standin.die()
        case "silence":
            standin.wait_for(told["until"])
        case "garbage":
            return b"\xc1"  # a byte that msgpack never uses
        case "nan":
            actions[part][..., 0] = np.nan
        case "shape":
            actions[part] = actions[part][:, :-1]
        case "dtype":
            actions[part] = actions[part].astype(np.float64)
        case "missing_part":
            del actions[part]
    return actions, info
