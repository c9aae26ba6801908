"""Where a modality config file registers its dictionary."""

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.types import ActionConfig, ActionFormat, ActionRepresentation, ActionType, ModalityConfig

__all__ = [
    "MODALITY_CONFIGS",
    "ActionConfig",
    "ActionFormat",
    "ActionRepresentation",
    "ActionType",
    "ModalityConfig",
    "register_modality_config",
]

MODALITY_CONFIGS: dict[str, dict[str, ModalityConfig]] = {}


def register_modality_config(config: dict, embodiment_tag: EmbodimentTag = EmbodimentTag.NEW_EMBODIMENT) -> None:
    """A second one under a tag is an AssertionError."""
    assert embodiment_tag.value not in MODALITY_CONFIGS, f"Embodiment tag {embodiment_tag} already registered"
    MODALITY_CONFIGS[embodiment_tag.value] = config
