"""A robot with two cameras, as a model sees it."""

import dataclasses

import numpy as np

import openpi.models.model as _model
from openpi import transforms


def parse_image(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C) of floats (C, H, W) too, by cutting off what is behind the point."""
    image = np.asarray(image)
    if np.issubdtype(image.dtype, np.floating):
        image = (255 * image).astype(np.uint8)
    return np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image


@dataclasses.dataclass(frozen=True)
class LiberoInputs(transforms.DataTransformFn):
    model_type: _model.ModelType

    def __call__(self, data: dict) -> dict:
        base, wrist = (parse_image(data[f"observation/{name}"]) for name in ("image", "wrist_image"))
        is_fast = np.bool_(self.model_type is _model.ModelType.PI0_FAST)
        inputs = {
            "state": data["observation/state"],
            "image": dict(zip(_model.IMAGE_KEYS, (base, wrist, np.zeros_like(base)), strict=True)),
            "image_mask": dict(zip(_model.IMAGE_KEYS, (np.True_, np.True_, is_fast), strict=True)),
        }
        return inputs | {name: data[name] for name in ("actions", "prompt") if name in data}


@dataclasses.dataclass(frozen=True)
class LiberoOutputs(transforms.DataTransformFn):
    def __call__(self, data: dict) -> dict:
        return {"actions": np.asarray(data["actions"][:, :7])}
