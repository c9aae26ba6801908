"""DROID's robot, whose state comes in two keys."""

import dataclasses

import numpy as np

import openpi.models.model as _model
from openpi import transforms
from openpi.policies.libero_policy import parse_image


@dataclasses.dataclass(frozen=True)
class DroidInputs(transforms.DataTransformFn):
    model_type: _model.ModelType

    def __call__(self, data: dict) -> dict:
        state = np.concatenate([data["observation/joint_position"], data["observation/gripper_position"]])
        base = parse_image(data["observation/exterior_image_1_left"])
        wrist = parse_image(data["observation/wrist_image_left"])
        inputs = {
            "state": state,
            "image": dict(zip(_model.IMAGE_KEYS, (base, wrist, np.zeros_like(base)), strict=True)),
            "image_mask": dict(zip(_model.IMAGE_KEYS, (np.True_, np.True_, np.False_), strict=True)),
        }
        return inputs | {name: data[name] for name in ("actions", "prompt") if name in data}


@dataclasses.dataclass(frozen=True)
class DroidOutputs(transforms.DataTransformFn):
    def __call__(self, data: dict) -> dict:
        return {"actions": np.asarray(data["actions"][:, :8])}
