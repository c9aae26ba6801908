"""The Python file by which upstream is told of a robot that it does not know: our recipe as a modality config."""

from __future__ import annotations

from positronic.codecs.build import Recipe
from positronic.vendors.gr00t.sidecars import modality_config

TAG = "NEW_EMBODIMENT"
STEM = "positronic_modality"  # upstream imports the file by this name
KINDS = ("video", "state", "action", "language")

HEAD = f'''"""Written for this run from its recipe: what is typed here is overwritten by the next one."""

from gr00t.configs.data.embodiment_configs import register_modality_config
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.types import ActionConfig, ActionFormat, ActionRepresentation, ActionType, ModalityConfig

register_modality_config(
    {{{{
{{parts}}
    }}}},
    EmbodimentTag.{TAG},
)
'''


def modality_file(recipe: Recipe) -> str:
    """Its content, for 626af89 and the tag n1.7-release: what processor_config.json of a checkpoint says too."""
    config = modality_config(recipe)
    return HEAD.format(parts="\n".join(f"        {kind!r}: {_part(config[kind])}," for kind in KINDS))


def _part(config: dict) -> str:
    said = [f"{name}={config[name]!r}" for name in ("delta_indices", "modality_keys")]
    if "action_configs" in config:
        said.append(f"action_configs=[{', '.join(map(_action, config['action_configs']))}]")
    return f"ModalityConfig({', '.join(said)})"


def _action(config: dict) -> str:
    return (
        f"ActionConfig(rep=ActionRepresentation.{config['rep']}, type=ActionType.{config['type']}, "
        f"format=ActionFormat.{config['format']}, state_key={config['state_key']!r})"
    )
