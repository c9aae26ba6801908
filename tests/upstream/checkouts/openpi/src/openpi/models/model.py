"""Kinds of models, and what every model's config says."""

import abc
import dataclasses
import enum
import logging
import pathlib
from typing import Any

logger = logging.getLogger("openpi")

IMAGE_KEYS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
IMAGE_RESOLUTION = (224, 224)


class ModelType(enum.Enum):
    PI0 = "pi0"
    PI0_FAST = "pi0_fast"
    PI05 = "pi05"


@dataclasses.dataclass(frozen=True)
class BaseModelConfig(abc.ABC):
    action_dim: int
    action_horizon: int
    max_token_len: int

    @property
    @abc.abstractmethod
    def model_type(self) -> ModelType:
        """The kind of model."""


def restore_params(params_path: pathlib.Path | str, **kwargs: Any) -> dict[str, Any]:
    """Raises FileNotFoundError for a folder that orbax did not write."""
    folder = pathlib.Path(params_path).resolve()
    if not (folder / "_METADATA").exists():
        raise FileNotFoundError(f"Metadata file (named _METADATA) does not exist at {folder}.")
    return {"params": (folder / "manifest.ocdbt").read_bytes()}
