"""The classes of which a modality config is made; names, fields and defaults are upstream's."""

from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from typing import Any

from gr00t.data.embodiment_tags import EmbodimentTag

__all__ = ["ActionConfig", "ActionFormat", "ActionRepresentation", "ActionType", "EmbodimentTag", "ModalityConfig"]


class ActionRepresentation(Enum):
    RELATIVE = "relative"
    DELTA = "delta"
    ABSOLUTE = "absolute"


class ActionType(Enum):
    EEF = "eef"
    NON_EEF = "non_eef"


class ActionFormat(Enum):
    DEFAULT = "default"
    XYZ_ROT6D = "xyz+rot6d"
    XYZ_ROTVEC = "xyz+rotvec"


@dataclass
class ActionConfig:
    rep: ActionRepresentation
    type: ActionType
    format: ActionFormat
    state_key: str | None = None


@dataclass
class ModalityConfig:
    delta_indices: list[int]
    modality_keys: list[str]
    sin_cos_embedding_keys: list[str] | None = None
    mean_std_embedding_keys: list[str] | None = None
    action_configs: list[ActionConfig] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.delta_indices, list):
            raise ValueError(f"delta_indices must be a non-None list, got {self.delta_indices!r}")
        if not isinstance(self.modality_keys, list) or not self.modality_keys:
            raise ValueError(f"modality_keys must be a non-empty list, got {self.modality_keys!r}")
        if self.action_configs is not None:
            assert len(self.action_configs) == len(self.modality_keys), (
                f"Number of action configs ({len(self.action_configs)}) must match number of modality keys "
                f"({len(self.modality_keys)})"
            )
            self.action_configs = [
                read(config) if isinstance(config, dict) else config for config in self.action_configs
            ]


def read(config: dict[str, Any]) -> ActionConfig:
    """An action config out of JSON, where its enums are names."""
    return ActionConfig(
        rep=ActionRepresentation[config["rep"]],
        type=ActionType[config["type"]],
        format=ActionFormat[config["format"]],
        state_key=config.get("state_key"),
    )


def to_json(value: Any) -> Any:
    """``value`` with dataclasses as dictionaries and enums as names."""
    if is_dataclass(value):
        return to_json(asdict(value))
    if isinstance(value, dict):
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return value.name if isinstance(value, Enum) else value
