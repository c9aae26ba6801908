"""π0.5 as LeRobot has it, trained and run in this process the way openpi does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from positronic import keys
from positronic.bake.columns import Spool
from positronic.bake.reader import Stats
from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.policies.base import OwnCheckpoint, own_checkpoint
from positronic.policies.config import described, make_config
from positronic.policies.floors import floored, with_floor
from positronic.policies.model import PolicyModel
from positronic.policies.needs import require_stats
from positronic.policies.steps import First, Steps, shapes_of, stats_of, task_step
from positronic.policies.trainable import Parts, PolicyTrainable, tensors
from positronic.policies.weights import load_config, load_weights
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device
from positronic.training.trainable import PolicySpec
from positronic.vendors.native import NativeBackend
from positronic.vendors.openpi import norm_stats, toy
from positronic.vendors.openpi.configs import CAMERAS, LORA, require_trainable
from positronic.vendors.openpi.loss import masked_loss
from positronic.vendors.openpi.network import BF16, build
from positronic.vendors.openpi.processors import ABSOLUTE, action_names, load_processors, make_processors
from positronic.vendors.openpi.tokens import (
    FOLDER,
    PromptEnd,
    load_tokenizer,
    require_short,
    tokenizer_files,
    tokenizer_of,
    word_tokenizer,
)
from positronic.vendors.openpi.weights import load_base, require_base

VENDOR = "openpi"


def steps_of(recipe: Recipe) -> Steps:
    """Columns have LeRobot's own names already; cameras come in the order of openpi's pretraining."""
    columns = recipe.modality_config.cameras
    cameras = dict.fromkeys(columns[role] for role in CAMERAS if role in columns)
    return [task_step(recipe.modality, reads_task=True), First(tuple(cameras))]


def config_of(recipe: Recipe, policy: Mapping[str, Any], device: str = "cpu", bf16: bool = False) -> Any:
    """lerobot's config. Raises PositronicError for a recipe that openpi cannot train, and for ``policy`` that lerobot's
    class does not take."""
    require_trainable(policy, recipe.modality_config)
    norm_stats.norm_stats_path(recipe)
    if not recipe.modality.image_columns:
        raise PositronicError("π0.5 sees through cameras: expected at least one, found none. Type codec.images=[...].")
    chunk = recipe.modality_config.action_chunk
    ours = {"chunk_size": chunk, "n_action_steps": chunk, "use_relative_actions": True}
    ours |= {"action_feature_names": action_names(recipe), "relative_exclude_joints": [ABSOLUTE]}
    ours |= {"dtype": BF16 if bf16 else "float32"}
    return make_config({**policy, **ours}, shapes_of(steps_of(recipe), recipe.modality), recipe.codec.name, device)


def check_policy(recipe: Recipe, policy: Mapping[str, Any]) -> None:
    """Raise PositronicError when this recipe or ``policy`` cannot be trained."""
    config_of(recipe, policy)


def make_trainable(spec: PolicySpec) -> PolicyTrainable:
    """π0.5 from pretrained weights, or from random ones.

    Raises PositronicError when recipe, policy or weights are not right, or no tokenizer is found.
    """
    recipe, dataset, start = spec.recipe, spec.dataset, _start(spec)
    config = _config(spec, start)
    if start.folder is not None and spec.resumed is None:
        require_base(start.folder)
    tokenizer = start.tokenizer(dataset.tasks)
    require_short(tokenizer, dataset.tasks, recipe.modality.state_size, config.tokenizer_max_length)
    tokens = tokenizer_files(tokenizer, spec.resumed)
    sizes = start.sizes or (toy.Toy(len(tokenizer) + 1) if start.is_toy else None)
    steps = steps_of(recipe)
    stats = stats_of(steps, statistics(spec))
    require_stats(config, stats)
    before, after = make_processors(config, tensors(stats), tokenizer)
    module = build(config, sizes, _has_adapters(recipe), filled=start.folder is None)
    if start.folder is not None and spec.resumed is None:
        load_base(module, start.folder)
    parts = Parts(config, module.to(spec.device), before, after, steps, reads_task=True)

    def write(folder: Path) -> None:
        """lerobot's own layout, with the tokenizer beside it."""
        config.save_pretrained(folder)
        before.save_pretrained(folder)
        after.save_pretrained(folder)
        (folder / FOLDER).mkdir()
        for name, content in tokens.items():
            (folder / FOLDER / name).write_bytes(content)
        if sizes:
            sizes.save(folder)

    return PolicyTrainable(parts, write, masked_loss if spec.mask_padding else None, real_steps=spec.mask_padding)


@dataclass(frozen=True)
class _Start:
    """Where weights, tokenizer and sizes come from. ``folder``: None for random weights. ``own``: of a checkpoint of
    ours. ``sizes``: of a toy that is there already."""

    folder: Path | None
    own: OwnCheckpoint | None
    sizes: toy.Toy | None
    is_toy: bool

    def tokenizer(self, tasks: Sequence[str]) -> Any:
        return word_tokenizer(tasks) if self.is_toy and self.folder is None else tokenizer_of(self.folder)


def _start(spec: PolicySpec) -> _Start:
    own = own_checkpoint(spec.base) if spec.base else None
    folder = spec.resumed or (own.weights if own else spec.base)
    sizes = toy.toy_in(folder) if folder else None
    return _Start(folder, own, sizes, spec.toy if folder is None else sizes is not None)


def _config(spec: PolicySpec, start: _Start) -> Any:
    policy = {**toy.POLICY, **spec.policy} if start.is_toy else spec.policy
    halves = _has_adapters(spec.recipe) and spec.precision == "bf16"
    config = config_of(spec.recipe, policy, spec.device, bf16=halves)
    if start.own is not None:
        start.own.require_same(VENDOR, spec.recipe, described(config), "chunk_size")
    return config


def _has_adapters(recipe: Recipe) -> bool:
    return recipe.modality_config.config_name == LORA


def statistics(spec: PolicySpec) -> Stats:
    """By column, with floors: those of actions are of chunks relative to their frame's state, as in norm_stats.json,
    over the episodes that are trained on."""
    recipe, dataset = spec.recipe, spec.dataset
    columns = recipe.modality.observation_columns
    what = norm_stats.norm_stats(recipe)
    spool = Spool(dataset.vectors, (dataset.ends - dataset.starts).tolist())
    return floored(columns, spec.stats) | {keys.LEROBOT_ACTION: with_floor(what.of_actions(spool), STD_FLOOR)}


def load_model(checkpoint: Path, device: str) -> PolicyModel:
    """The policy in a checkpoint's folder, on ``device``, in the types that it was trained in.

    Raises PositronicError when the checkpoint is not whole.
    """
    recipe, folder = trained_recipe(read_info(checkpoint)), checkpoint / PRETRAINED_MODEL
    device = resolve_device(device)
    config = load_config(folder, device)
    policy = build(config, toy.toy_in(folder), _has_adapters(recipe), filled=False)
    load_weights(policy, folder)
    before, after = load_processors(folder, device)
    parts = Parts(config, policy.to(device).eval(), before, after, steps_of(recipe), reads_task=True)
    noise_shape = (config.chunk_size, config.max_action_dim)
    end = PromptEnd.of(load_tokenizer(folder / FOLDER))

    def act(seen: dict[str, Any], noise: Tensor | None) -> Tensor:
        end.require(seen[keys.LEROBOT_TOKENS], seen[keys.LEROBOT_TOKEN_MASK])
        return policy.predict_action_chunk(seen, noise=noise)

    return PolicyModel(parts, act, recipe, device, noise_shape)


BACKEND = NativeBackend(check_policy, make_trainable, load_model)
