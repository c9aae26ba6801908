"""LeRobot's policies, trained and run in this process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import copy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.policies import backbones, library
from positronic.policies.base import own_checkpoint
from positronic.policies.config import described, make_config
from positronic.policies.floors import floored
from positronic.policies.model import PolicyModel
from positronic.policies.needs import require_stats
from positronic.policies.steps import Steps, shapes_of, stats_of, task_step
from positronic.policies.trainable import Parts, PolicyTrainable, tensors
from positronic.policies.weights import load_config, load_weights
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device
from positronic.training.trainable import PolicySpec
from positronic.vendors.lerobot.kinds import ELSEWHERE, OneStep, kind_of
from positronic.vendors.native import NativeBackend

VENDOR = "lerobot"
TOKENIZER_STEP = "tokenizer_processor"  # in policy_preprocessor.json
BACKBONE_WEIGHTS, LANGUAGE_WEIGHTS = "pretrained_backbone_weights", "load_vlm_weights"
FOLDER = "language"  # in a checkpoint: tokenizer and processor of a policy that reads the task

logger = logging.getLogger(__name__)


def steps_of(recipe: Recipe, policy_type: str) -> Steps:
    """Columns have LeRobot's own names already; the instruction takes its own, or is kept away."""
    kind = kind_of(policy_type)
    return [task_step(recipe.modality, kind.reads_task), *([OneStep()] if kind.has_time else [])]


def config_of(recipe: Recipe, policy: Mapping[str, Any], device: str) -> Any:
    """lerobot's config. Raises PositronicError when ``policy`` is not what its class takes, or cannot be trained."""
    policy_type = str(policy.get(library.TYPE))
    if policy_type in ELSEWHERE:
        raise PositronicError(
            f"vendor.policy.type={policy_type}: type vendor={ELSEWHERE[policy_type]}, which trains it."
        )
    shapes = shapes_of(steps_of(recipe, policy_type), recipe.modality)
    config = make_config(policy, shapes, recipe.codec.name, device)
    _require_no_history(config)
    for name, value in kind_of(policy_type).needs.items():
        if getattr(config, name) != value:
            raise PositronicError(
                f"vendor.policy.{name}={getattr(config, name)}: one served model answers many robots, and with this "
                f"value their actions would depend on each other. Type vendor.policy.{name}={value}."
            )
    return config


def check_policy(recipe: Recipe, policy: Mapping[str, Any]) -> None:
    """Raise PositronicError when ``policy`` is not what lerobot's config class takes, or cannot be trained here."""
    config_of(recipe, policy, "cpu")


def make_trainable(spec: PolicySpec) -> PolicyTrainable:
    """A new policy. Raises PositronicError when ``spec.policy`` is not what lerobot's config class takes."""
    config, recipe = config_of(spec.recipe, spec.policy, spec.device), spec.recipe
    kind, steps = kind_of(config.type), steps_of(recipe, config.type)
    if kind.lacks:
        logger.warning("vendor.policy.type=%s: %s.", config.type, kind.lacks)
    sources = _sources(config, spec)
    module = _on_device(_build(sources), spec.device)
    stats = stats_of(steps, floored(recipe.modality.columns, spec.stats))
    require_stats(config, stats)
    before, after = library.make_processors(sources, tensors(stats))
    parts = Parts(config, module, before, after, steps, kind.reads_task)
    if spec.base is not None:
        _start_from(spec.base, parts, recipe, spec.device)
    language = {} if kind.folder is None else _language(getattr(sources, kind.folder))
    portable = _without_download(copy(config))
    if kind.folder is not None:
        setattr(portable, kind.folder, FOLDER)
        _name_tokenizer(before, FOLDER)

    def write(folder: Path) -> None:
        """lerobot's own layout, which its ``from_pretrained`` reads."""
        portable.save_pretrained(folder)
        before.save_pretrained(folder)
        after.save_pretrained(folder)
        for name, content in language.items():
            (folder / FOLDER).mkdir(exist_ok=True)
            (folder / FOLDER / name).write_bytes(content)

    return PolicyTrainable(parts, write)


def _sources(config: Any, spec: PolicySpec) -> Any:
    """The config to build by: weights that are loaded next are not downloaded before, and a run that is resumed has
    tokenizer and processor in its checkpoint."""
    if spec.base is None and spec.resumed is None:
        return config
    sources, field = _without_download(copy(config)), kind_of(config.type).folder
    if spec.resumed is not None and field is not None:
        setattr(sources, field, str(spec.resumed / FOLDER))
    return sources


def load_model(checkpoint: Path, device: str) -> PolicyModel:
    """The policy in a checkpoint's folder, on ``device``, in float32.

    Raises PositronicError when the checkpoint is not whole, or is of a policy that this lerobot does not know.
    """
    recipe, folder = trained_recipe(read_info(checkpoint)), checkpoint / PRETRAINED_MODEL
    device = resolve_device(device)
    config = _without_download(load_config(folder, device))
    kind, tokenizer = kind_of(config.type), {}
    if kind.folder is not None:
        setattr(config, kind.folder, str(folder / FOLDER))
        tokenizer = {TOKENIZER_STEP: {"tokenizer_name": str(folder / FOLDER)}}
    policy = _on_device(_build(config), device)
    load_weights(policy, folder, device)
    before, after = library.load_processors(folder, device, tokenizer)
    parts = Parts(config, policy.eval(), before, after, steps_of(recipe, config.type), kind.reads_task)
    noise_shape = kind.noise and kind.noise(config)
    return PolicyModel(parts, partial(kind.act, policy), recipe, device, noise_shape)


def _start_from(base: Path, parts: Parts, recipe: Recipe, device: str) -> None:
    """Take the weights of a checkpoint of ours, or of a folder of LeRobot's."""
    own, fields = own_checkpoint(base), described(parts.config)
    if own is None:
        if load_config(base, device).type != parts.config.type:
            raise PositronicError(f"vendor.base={base}: expected a '{parts.config.type}', found another policy.")
        load_weights(parts.module, base, device)
        return
    own.require_same(VENDOR, recipe, fields, kind_of(parts.config.type).horizon)
    try:
        load_weights(parts.module, own.weights, device)
    except PositronicError as error:
        raise PositronicError(f"{error} {own.other_fields(fields)}".strip()) from None


def _language(name: str) -> dict[str, bytes]:
    """Config, tokenizer and processor, by the names of their files, which may be gone when a checkpoint is written."""
    from transformers import AutoConfig, AutoProcessor

    with TemporaryDirectory() as folder:
        AutoConfig.from_pretrained(name).save_pretrained(folder)
        AutoProcessor.from_pretrained(name).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _name_tokenizer(before: Any, name: str) -> None:
    """What a checkpoint calls the place of the tokenizer, which has been loaded."""
    for step in before.steps:
        if hasattr(step, "tokenizer_name"):
            step.tokenizer_name = name


def _without_download(config: Any) -> Any:
    """Weights that training started from are in the checkpoint, and must not be downloaded again."""
    for name, nothing in ((BACKBONE_WEIGHTS, None), (LANGUAGE_WEIGHTS, False)):
        if hasattr(config, name):
            setattr(config, name, nothing)
    return config


def _on_device(policy: Any, device: str) -> Any:
    """Kernels laid out channels last, as the images are: a fifth faster on a CPU."""
    return policy.to(device, memory_format=torch.channels_last)


def _build(config: Any) -> Any:
    backbones.register()
    try:
        return library.policy_class(config.type)(config)
    except OSError as error:  # no network, and something has to be downloaded
        raise _not_there(config, error) from None
    except (ValueError, TypeError, NotImplementedError, AssertionError, RuntimeError, AttributeError) as error:
        raise PositronicError(
            f"vendor.policy: LeRobot's '{config.type}' cannot be built with these values: {error}"
        ) from None


def _not_there(config: Any, error: OSError) -> PositronicError:
    field, said = kind_of(config.type).folder, str(error).strip().partition("\n")[0]
    if field is None:
        name = getattr(config, BACKBONE_WEIGHTS, None)
        return PositronicError(
            f"The weights '{name}' could not be downloaded ({said}). "
            f"Take vendor.policy.{BACKBONE_WEIGHTS}=null to start from random ones."
        )
    name = getattr(config, field)
    return PositronicError(
        f"vendor.policy.{field}={name}: its config, tokenizer and processor could not be fetched from the Hugging Face "
        f"hub ({said}). Fetch them where there is a network (hf download {name}) and type vendor.policy.{field}=<that "
        f"folder>; vendor.policy.{LANGUAGE_WEIGHTS}=false starts from random weights."
    )


def _require_no_history(config: Any) -> None:
    """One served model answers many robots, so it predicts from what it is given, a whole chunk."""
    if config.action_delta_indices is None:
        raise PositronicError(
            f"vendor.policy.type={config.type} cannot be trained here: it predicts no chunk of actions. Take "
            "vendor.policy.type=act."
        )
    if list(config.observation_delta_indices or [0]) != [0]:
        way_out = "Type vendor.policy.n_obs_steps=1." if hasattr(config, "n_obs_steps") else "Take another policy."
        raise PositronicError(
            f"vendor.policy.type={config.type} with these values keeps a history of observations, and one served model "
            f"answers many robots. {way_out}"
        )


BACKEND = NativeBackend(check_policy, make_trainable, load_model)
