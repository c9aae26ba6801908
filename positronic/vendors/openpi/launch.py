"""Runs openpi's own statistics, training or server with a config of ours, which is registered in memory: a checkout
stays as it is. A script by itself, for openpi's interpreter; nothing of Positronic is imported:

    python -P launch.py stats <checkout> <spec.json>
    python -P launch.py train <checkout> <spec.json> [options of openpi's scripts/train.py]
    python -P launch.py serve <checkout> <spec.json> [options of openpi's scripts/serve_policy.py]

A server listens at 127.0.0.1 alone. With ``own`` for a spec, it takes a config of the checkout's own. ``spec.py`` says
what a spec holds. The processes of openpi's loader import this file again, so what they need is at its top level.
Written for openpi at 15a9616.
"""

import dataclasses
import importlib
import json
import logging
import pathlib
import sys
import types
from typing import Any

import numpy as np
import tyro

DATASET = "datasets.lerobot_dataset"


def video_backend() -> str:
    """lerobot takes torchcodec where it is installed, even if it finds no FFmpeg."""
    try:
        importlib.import_module("torchcodec")
    except (ImportError, OSError, RuntimeError):
        return "pyav"
    return "torchcodec"


def alias_lerobot() -> None:
    """Newer versions have its dataset at another place than the one where openpi looks."""
    try:
        found = importlib.import_module(f"lerobot.common.{DATASET}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("lerobot.common"):
            raise
        found = importlib.import_module(f"lerobot.{DATASET}")
        for name in ("lerobot.common", "lerobot.common.datasets"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules[f"lerobot.common.{DATASET}"] = found
    found.get_safe_default_codec = video_backend


alias_lerobot()

import openpi.models.model as _model  # noqa: E402
import openpi.models.pi0_config as pi0_config  # noqa: E402
import openpi.training.config as _config  # noqa: E402
import openpi.training.optimizer as _optimizer  # noqa: E402
import openpi.training.weight_loaders as weight_loaders  # noqa: E402
import openpi.transforms as transforms  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Inputs(transforms.DataTransformFn):
    """Our names to the model's. ``images``: place in the model -> our name; a place without one is black, and masked if
    ``mask_missing``. ``pad_to``: zeros are put behind state and actions already here, before they are normalised."""

    images: dict[str, str]
    state: str
    mask_missing: bool
    pad_to: int | None

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Images (C, H, W) float from 0 to 1 or (H, W, C) uint8; state (D,), actions (steps, A)."""
        seen = {place: as_uint8(data[name]) for place, name in self.images.items()}
        black = np.zeros_like(next(iter(seen.values())))
        known = {place: np.bool_(place in seen or not self.mask_missing) for place in _model.IMAGE_KEYS}
        images = {place: seen.get(place, black) for place in _model.IMAGE_KEYS}
        out = {"image": images, "image_mask": known, "state": self._padded(data[self.state])}
        if "actions" in data:
            out["actions"] = self._padded(data["actions"])
        return out | {name: data[name] for name in ("prompt",) if name in data}

    def _padded(self, values: Any) -> np.ndarray:
        values = np.asarray(values)
        return values if self.pad_to is None else transforms.pad_to_dim(values, self.pad_to)


@dataclasses.dataclass(frozen=True)
class Outputs(transforms.DataTransformFn):
    """The numbers of an action that are ours."""

    action_size: int

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Actions (steps, A)."""
        return {"actions": np.asarray(data["actions"][:, : self.action_size])}


def as_uint8(image: Any) -> np.ndarray:
    """As openpi's own policies do it: what is behind the point is cut off."""
    image = np.asarray(image)
    if np.issubdtype(image.dtype, np.floating):
        image = (255 * image).astype(np.uint8)
    return np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image


@dataclasses.dataclass(frozen=True)
class Data(_config.DataConfigFactory):
    """The dataset of a spec."""

    spec: tyro.conf.Suppress[dict] = dataclasses.field(default_factory=dict)

    def create(self, assets_dirs: pathlib.Path, model_config: _model.BaseModelConfig) -> _config.DataConfig:
        """Its transforms, in openpi's order: repack, ours, normalise, the model's."""
        spec = self.spec
        ours = Inputs(*(spec[name] for name in ("images", "state", "mask_missing", "pad_to")))
        return dataclasses.replace(
            self.create_base_config(assets_dirs, model_config),
            repack_transforms=transforms.Group(inputs=[transforms.RepackTransform(spec["columns"])]),
            data_transforms=transforms.Group(
                inputs=[ours, transforms.DeltaActions(spec["delta_mask"])],
                outputs=[transforms.AbsoluteActions(spec["delta_mask"]), Outputs(spec["action_size"])],
            ),
            model_transforms=_config.ModelTransformFactory()(model_config),
            action_sequence_keys=(spec["columns"]["actions"],),
            prompt_from_task=True,
        )


def register(spec: dict[str, Any]) -> None:
    """Put the config of ``spec`` among openpi's own, for the process's life. A server says the spec to who connects."""
    run, stats = spec.get("run"), spec.get("stats")
    model = pi0_config.Pi0Config(pi05=True, **spec["model"])
    of_run: dict[str, Any] = {"policy_metadata": spec}
    if run is not None:
        of_run = {
            "weight_loader": weight_loaders.CheckpointWeightLoader(run["weights"]),
            "optimizer": _optimizer.AdamW(**run["optimizer"]),
            "ema_decay": run["ema_decay"],
        }
    if stats is not None:
        of_run = {name: stats[name] for name in ("batch_size", "num_workers", "assets_base_dir")}
    _config._CONFIGS_DICT[spec["name"]] = _config.TrainConfig(
        name=spec["name"],
        model=model,
        freeze_filter=model.get_freeze_filter(),
        data=Data(repo_id=spec["repo_id"], spec=spec),
        wandb_enabled=False,
        **of_run,
    )


def serve() -> None:
    """As openpi's own ``main``, which listens on every address of the machine."""
    script = importlib.import_module("scripts.serve_policy")
    sockets = importlib.import_module("openpi.serving.websocket_policy_server")
    args = tyro.cli(script.Args)
    policy = script.create_policy(args)
    metadata = {"name": args.policy.config, **(policy.metadata or {})}
    sockets.WebsocketPolicyServer(policy=policy, host="127.0.0.1", port=args.port, metadata=metadata).serve_forever()


def main() -> None:
    """Register, and do what openpi's own ``main`` does."""
    stage, checkout, path, *options = sys.argv[1:]
    spec = None if path == "own" else json.loads(pathlib.Path(path).read_text())
    sys.path.insert(0, checkout)  # for its scripts
    if spec is not None:
        register(spec)
    if stage == "train":
        sys.argv = [stage, spec["name"], *options]
        importlib.import_module("scripts.train").main(_config.cli())
    elif stage == "stats":
        importlib.import_module("scripts.compute_norm_stats").main(spec["name"])
    else:
        sys.argv = [stage, *options]
        logging.basicConfig(level=logging.INFO, force=True)
        serve()


if __name__ == "__main__":
    main()
