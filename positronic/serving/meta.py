"""What a session tells its client about the policy behind it.

Clients in the field need the first keys (each reads a part of them: the image size three times, the rig-side stack, the
rate). The others say which policy this is. There are no times and no random ids, because a client that reconnects
compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.training.checkpoints import Checkpoint

PUBLIC_PARTS = 3  # of a checkpoint's path: <experiment>/checkpoints/<id>
CHUNKED_SCHEDULE = {keys.STACK_NAME: keys.STACK_SCHEDULE}


def session_meta(recipe: Recipe, checkpoint: Checkpoint, vendor: str) -> dict[str, Any]:
    """Meta of a session with ``checkpoint``; conventions by canonical feature."""
    codec = recipe.codec
    meta = {
        keys.META_TYPE: vendor,
        keys.META_CHECKPOINT_ID: checkpoint.id,
        keys.META_ACTION_FPS: float(codec.timing.fps),
        keys.META_COMPRESS_IMAGES: False,
        keys.META_LOCAL_STACK: {keys.STACK_SEQUENCE: [CHUNKED_SCHEDULE]},
        keys.META_VENDOR: vendor,
        keys.META_CODEC: codec.name,
        keys.META_CONVENTIONS: {name: str(convention) for name, convention in codec.conventions.items()},
        keys.META_EMBODIMENT: codec.embodiment.to_dict(),
        keys.META_ROBOT: codec.robot,
        keys.META_EXPERIMENT: checkpoint.experiment_dir.name,
        keys.META_CHECKPOINT_PATH: str(checkpoint.place),
    }
    if codec.timing.horizon_sec is not None:
        meta[keys.META_ACTION_HORIZON_SEC] = codec.timing.horizon_sec
    return meta | _image_size(recipe)


def public_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """For a client: of the checkpoint's path only what is below the folder of experiments. The rest says where things
    are on the server's machine or in somebody's bucket."""
    path = meta.get(keys.META_CHECKPOINT_PATH)
    if path is None:
        return dict(meta)
    return {**meta, keys.META_CHECKPOINT_PATH: "/".join(str(path).rsplit("/", PUBLIC_PARTS)[-PUBLIC_PARTS:])}


def _image_size(recipe: Recipe) -> dict[str, Any]:
    if not recipe.codec.images:
        return {}
    height, width = recipe.modality_config.image_size
    size = {keys.STACK_WIDTH: width, keys.STACK_HEIGHT: height}
    shrink = {keys.STACK_NAME: keys.STACK_IMAGE_SIZE, keys.STACK_ARGS: size}
    return {
        keys.META_IMAGE_SIZES: [width, height],
        keys.META_LOCAL_STACK: {keys.STACK_SEQUENCE: [CHUNKED_SCHEDULE, shrink]},
    }
