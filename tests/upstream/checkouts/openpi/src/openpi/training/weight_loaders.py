"""Where weights come from."""

import dataclasses
import logging
from typing import Any, Protocol, runtime_checkable

import openpi.models.model as _model
import openpi.shared.download as download

logger = logging.getLogger(__name__)


@runtime_checkable
class WeightLoader(Protocol):
    def load(self, params: Any) -> Any:
        """``params`` with what was loaded."""


@dataclasses.dataclass(frozen=True)
class NoOpWeightLoader(WeightLoader):
    def load(self, params: Any) -> Any:
        logger.warning("No weights loaded, training from scratch.")
        return params


@dataclasses.dataclass(frozen=True)
class CheckpointWeightLoader(WeightLoader):
    params_path: str

    def load(self, params: Any) -> Any:
        return params | _model.restore_params(download.maybe_download(self.params_path))


@dataclasses.dataclass(frozen=True)
class PaliGemmaWeightLoader(WeightLoader):
    def load(self, params: Any) -> Any:
        download.maybe_download("gs://vertex-model-garden-paligemma-us/paligemma/pt_224.npz", gs={"token": "anon"})
        return params
