"""π0.5 as LeRobot has it, trained and run in this process the way openpi does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from positronic import keys
from positronic.bake.columns import Spool
from positronic.bake.reader import Stats
from positronic.bake.statistics import STD_FLOOR
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.policies.base import own_checkpoint
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
from positronic.vendors.openpi import norm_stats, toy
from positronic.vendors.openpi.configs import LORA, require_trainable
from positronic.vendors.openpi.loss import masked_loss
from positronic.vendors.openpi.network import BF16, build
from positronic.vendors.openpi.processors import ABSOLUTE, action_names, load_processors, make_processors
from positronic.vendors.openpi.tokens import FOLDER, require_short, tokenizer_of, word_tokenizer
from positronic.vendors.openpi.weights import load_base

VENDOR = "openpi"
# Places of cameras in openpi's pretraining, by the roles of conf/modality/openpi. A camera that is missing is left out:
# openpi masks it, and what is masked has no influence on anything (a test compares the two).
CAMERAS = ("exterior", "wrist", "left_wrist", "right_wrist")


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
    recipe, dataset, lora = spec.recipe, spec.dataset, spec.recipe.modality_config.config_name == LORA
    policy = {**toy.POLICY, **spec.policy} if spec.toy else spec.policy
    config = config_of(recipe, policy, spec.device, bf16=lora and spec.precision == "bf16")
    base = spec.base and _weights_of(spec.base, recipe, config)
    tokenizer = word_tokenizer(dataset.tasks) if base is None and spec.toy else tokenizer_of(base)
    require_short(tokenizer, dataset.tasks, recipe.modality.state_size, config.tokenizer_max_length)
    sizes = toy.Toy(len(tokenizer) + 1) if base is None and spec.toy else base and toy.toy_in(base)
    steps = steps_of(recipe)
    stats = stats_of(steps, statistics(spec))
    require_stats(config, stats)
    before, after = make_processors(config, tensors(stats), tokenizer)
    module = build(config, sizes, lora, filled=base is None)
    if base is not None:
        load_base(module, base)
    parts = Parts(config, module.to(spec.device), before, after, steps, reads_task=True)

    def write(folder: Path) -> None:
        """lerobot's own layout, with the tokenizer beside it."""
        config.save_pretrained(folder)
        before.save_pretrained(folder)
        after.save_pretrained(folder)
        tokenizer.save_pretrained(folder / FOLDER)
        if sizes:
            sizes.save(folder)

    return PolicyTrainable(parts, write, masked_loss if spec.mask_padding else None)


def _weights_of(base: Path, recipe: Recipe, config: Any) -> Path:
    """The folder with the weights: ``base`` itself, or inside of a checkpoint of ours, which must be of this codec."""
    own = own_checkpoint(base)
    if own is None:
        return base
    own.require_same(VENDOR, recipe, described(config), "chunk_size")
    return own.weights


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
    lora = recipe.modality_config.config_name == LORA
    policy = build(config, toy.toy_in(folder), lora, filled=False)
    load_weights(policy, folder)
    before, after = load_processors(folder, device)
    parts = Parts(config, policy.to(device).eval(), before, after, steps_of(recipe), reads_task=True)
    noise_shape = (config.chunk_size, config.max_action_dim)

    def act(seen: dict[str, Any], noise: Tensor | None) -> Tensor:
        return policy.predict_action_chunk(seen, noise=noise)

    return PolicyModel(parts, act, recipe, device, noise_shape)
