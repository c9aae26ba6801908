"""GR00T N1.7 through lerobot's port, trained and run in this process.

A checkpoint is upstream's layout: ``config.json``, ``model.safetensors`` and the three sidecar files, with the
backbone's tokenizer and processors beside them. It is built from these files alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.conventions import require_equal
from positronic.errors import PositronicError
from positronic.policies import library
from positronic.policies.base import own_checkpoint
from positronic.policies.config import described, make_config
from positronic.policies.model import PolicyModel
from positronic.policies.steps import Rename, SideBySide, Steps, shapes_of, task_step
from positronic.policies.trainable import Parts, PolicyTrainable
from positronic.policies.weights import Weights
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.config import RANDOM
from positronic.training.device import autocast, resolve_device
from positronic.training.trainable import PolicySpec
from positronic.vendors.gr00t import network, rows, sidecars, toy
from positronic.vendors.gr00t.backbone import WEIGHTS_SUFFIXES, copy_backbone, processors, require_patches
from positronic.vendors.gr00t.parts import action_parts, state_columns
from positronic.vendors.gr00t.settled import POLICY_TYPE, require_trainable
from positronic.vendors.native import NativeBackend

VENDOR, RELATIVE = "gr00t", "modality.relative_actions"
# Of vendor.policy, those that GR00T's own config has too.
OF_NETWORK = (
    "tune_llm",
    "tune_visual",
    "tune_projector",
    "tune_diffusion_model",
    "tune_vlln",
    "tune_top_llm_layers",
    "use_flash_attention",
    "num_inference_timesteps",
)
WEIGHTS = Weights(network.save, network.load)


def steps_of(recipe: Recipe) -> Steps:
    """The columns of the state are joined in the modality's order, which the sidecar files tell too."""
    modality, state = recipe.modality, state_columns(recipe)
    return [
        *[Rename(column.name, keys.LEROBOT_IMAGES + column.name) for column in modality.image_columns],
        SideBySide(tuple(column.name for column in state), keys.LEROBOT_STATE),
        task_step(modality, reads_task=True),
    ]


def config_of(recipe: Recipe, policy: Mapping[str, Any], device: str) -> Any:
    """lerobot's config. Raises PositronicError for fields that it does not know."""
    steps = recipe.modality_config.action_chunk
    fields = {**policy, library.TYPE: POLICY_TYPE, "chunk_size": steps, "n_action_steps": steps}
    return make_config(fields, shapes_of(steps_of(recipe), recipe.modality), recipe.codec.name, device)


def check_policy(recipe: Recipe, policy: Mapping[str, Any]) -> None:
    """Raise PositronicError when lerobot's config class does not take ``policy``, or GR00T this recipe."""
    require_trainable(policy, recipe.modality_config)
    action_parts(recipe)
    config = config_of(recipe, policy, "cpu")
    if config.use_flash_attention and find_spec("flash_attn") is None:
        raise PositronicError(
            "vendor.policy.use_flash_attention=true needs the package flash-attn, which is not installed. Install one "
            "that fits this torch, or leave it out: torch's own attention gives the same numbers."
        )


def make_trainable(spec: PolicySpec) -> PolicyTrainable:
    """A policy with the weights of ``spec.base``, or a toy. Raises PositronicError when that base cannot be used."""
    library.enter_policies()
    with _folder(spec) as folder:
        is_loaded = spec.base is not None or spec.resumed is not None
        parts = _build(spec.recipe, spec.policy, folder, spec.device, spec.precision, filled=not is_loaded)
        files = {path.relative_to(folder): path.read_bytes() for path in _small_files(folder)}
    if spec.resumed is None and spec.base is not None:
        network.load(parts.module, _weights(spec))

    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    return PolicyTrainable(parts, write, weights=WEIGHTS, real_steps=True)


def load_model(checkpoint: Path, device: str) -> PolicyModel:
    """The policy in a checkpoint's folder, on ``device``: on a GPU in the precision that it was trained in.

    Raises PositronicError when the checkpoint is not whole.
    """
    info, folder = read_info(checkpoint), checkpoint / PRETRAINED_MODEL
    recipe, device = trained_recipe(info), resolve_device(device)
    precision = info["training"]["precision"] if device.startswith("cuda") else "fp32"
    parts = _build(recipe, info["training"]["policy"], folder, device, precision, filled=False)
    network.load(parts.module, folder)
    act = partial(_act, parts.module.eval(), device, precision)
    return PolicyModel(parts, act, recipe, device, network.noise_shape(parts.module))


def _act(policy: Any, device: str, precision: str, seen: dict[str, Any], noise: Tensor) -> Tensor:
    """Rows whose texts are equally long go through the network together."""
    inputs, chunks = policy._filter_groot_inputs(seen, include_action=False), torch.empty_like(noise)
    for numbers, those in rows.by_length(inputs):
        with autocast(device, precision):
            chunks[numbers] = network.act(policy, those, noise[numbers]).float()
    return chunks


def _build(recipe: Recipe, policy: Mapping[str, Any], folder: Path, device: str, precision: str, filled: bool) -> Parts:
    """The policy by the files in ``folder``, ``filled`` with random weights or not at all."""
    config, inside = config_of(recipe, policy, device), network.read_config(folder)
    config.base_model_path = str(folder.absolute())
    config.use_bf16 = precision == "bf16"  # lerobot's own autocast, inside of ours
    config.max_state_dim, config.max_action_dim = inside["max_state_dim"], inside["max_action_dim"]
    before, after = processors(config, folder)
    built = network.build(inside, folder, filled)
    require_patches(before, network.vision_of(built), folder)
    module = network.policy_around(config, built).to(device)
    return Parts(config, module, before, after, steps_of(recipe), reads_task=True)


@contextmanager
def _folder(spec: PolicySpec) -> Iterator[Path]:
    """A folder with all that a checkpoint holds beside the weights, for as long as the context lasts."""
    if spec.resumed is not None:
        yield spec.resumed
        return
    with TemporaryDirectory() as made:
        folder = Path(made)
        _require_one_base(spec)
        if spec.base is None:
            base = folder
            toy.write_toy(folder, spec.dataset.tasks if spec.dataset else ())
        else:
            base = _weights(spec)
            copy_backbone(base, network.read_config(base), folder)
        for name, content in _contents(spec, base).items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n")
        try:
            yield folder
        except PositronicError as error:
            if spec.base is None or str(folder) not in str(error):
                raise
            # It is about a file that was copied from the base.
            raise PositronicError(str(error).replace(str(folder), f"vendor.base={base}")) from None


def _contents(spec: PolicySpec, base: Path) -> dict[str, Any]:
    """GR00T's own config and the sidecar files: name -> content."""
    config = config_of(spec.recipe, spec.policy, spec.device)
    said = {name: getattr(config, name) for name in OF_NETWORK}
    inside = network.read_config(base) | {name: value for name, value in said.items() if value is not None}
    beside = {name: _object(base / name) for name in (sidecars.PROCESSOR_FILE, sidecars.EMBODIMENT_FILE)}
    ours = sidecars.sidecars(spec.recipe, spec.stats, spec.dataset, inside, beside)
    return ours | {network.CONFIG_FILE: inside}


def _require_one_base(spec: PolicySpec) -> None:
    if spec.toy and spec.base is not None:
        raise PositronicError(f"vendor.toy=true makes its own random weights. Type vendor.base={RANDOM} beside it.")
    if not spec.toy and spec.base is None:
        raise PositronicError(
            f"vendor.base={RANDOM}: GR00T is fine-tuned, its {network.SIZE} random weights would learn nothing. Type "
            f"vendor.base={network.PUBLISHED} or a folder with it; vendor.toy=true tries the same code out in seconds."
        )


def _weights(spec: PolicySpec) -> Path:
    """The folder with the weights of ``spec.base``. A checkpoint of our own must be of the same recipe."""
    own = own_checkpoint(spec.base)
    if own is None:
        return spec.base
    config = config_of(spec.recipe, spec.policy, spec.device)
    own.require_same(VENDOR, spec.recipe, described(config), "chunk_size")
    relative = [{RELATIVE: each.modality_config.relative_actions} for each in (own.recipe, spec.recipe)]
    hint = "Type the checkpoint's value, or start from other weights."
    require_equal(f"vendor.base={own.path}", relative[0], "this run", relative[1], hint)
    return own.weights


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise PositronicError(f"{path} cannot be read ({error}). Fetch it again.") from None
    if not isinstance(found, dict):
        raise PositronicError(f"{path}: expected a JSON object, found {type(found).__name__}. Fetch it again.")
    return found


def _small_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith(WEIGHTS_SUFFIXES):
            yield path


BACKEND = NativeBackend(check_policy, make_trainable, load_model)
