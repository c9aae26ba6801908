"""LeRobot's policies, trained and run in this process."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
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
from positronic.vendors.lerobot.kinds import ELSEWHERE, Inside, Kind, kind_of
from positronic.vendors.native import NativeBackend

VENDOR = "lerobot"
TOKENIZER_STEP = "tokenizer_processor"  # in policy_preprocessor.json
BACKBONE_WEIGHTS, LANGUAGE_WEIGHTS = "pretrained_backbone_weights", "load_vlm_weights"

logger = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


def steps_of(recipe: Recipe, policy_type: str) -> Steps:
    """Columns have LeRobot's own names already; the instruction takes its own, or is kept away."""
    kind = kind_of(policy_type)
    return [task_step(recipe.modality, kind.reads_task), *([kind.step] if kind.step else [])]


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
    if spec.base is not None:
        _require_base(spec.base, config, recipe, spec.device)
    sources = _sources(config, spec)
    kind, steps = kind_of(config.type), steps_of(recipe, config.type)
    if kind.lacks:
        logger.warning("vendor.policy.type=%s: %s.", config.type, kind.lacks)
    stats = stats_of(steps, floored(recipe.modality.columns, spec.stats))
    require_stats(config, stats)
    before, after = _processors(sources, tensors(stats), spec)
    language = {each.name: _fetched(sources, each, spec.resumed) for each in kind.inside}
    module = _on_device(_build(sources, sources is not config), spec.device)
    parts = Parts(config, module, before, after, steps, kind.reads_task)
    if spec.base is not None:
        _start_from(spec.base, parts, spec.device)
    portable = _from_folder(_without_download(copy(config)), kind, None)
    _name_tokenizer(before, kind)

    def write(folder: Path) -> None:
        """lerobot's own layout, which its ``from_pretrained`` reads."""
        portable.save_pretrained(folder)
        before.save_pretrained(folder)
        after.save_pretrained(folder)
        for name, files in language.items():
            (folder / name).mkdir(exist_ok=True)
            for file, content in files.items():
                (folder / name / file).write_bytes(content)

    return PolicyTrainable(parts, write, real_steps=kind.real_steps(config), part_loss=kind.part_loss)


def _sources(config: Any, spec: PolicySpec) -> Any:
    """The config to build by: weights that are loaded next are not downloaded before, and a run that is resumed has
    tokenizer and processor in its checkpoint."""
    if spec.base is None and spec.resumed is None:
        return config
    sources = _without_download(copy(config))
    return sources if spec.resumed is None else _from_folder(sources, kind_of(config.type), spec.resumed)


def _from_folder(config: Any, kind: Kind, folder: Path | None) -> Any:
    """``config``, with names of folders in the checkpoint's ``folder`` instead of names on the hub; None: relative."""
    for each in kind.inside:
        if each.field is not None:
            setattr(config, each.field, each.name if folder is None else str(folder / each.name))
    return config


def _processors(config: Any, stats: dict[str, Any], spec: PolicySpec) -> tuple[Any, Any]:
    """New ones. If LeRobot has fixed the tokenizer's name, those of a run that is resumed are taken back."""
    kind = kind_of(config.type)
    if spec.resumed is not None and any(each.field is None for each in kind.inside):
        return _load_processors(spec.resumed, spec.device, kind)
    if not kind.inside:
        return library.make_processors(config, stats)
    try:
        return library.make_processors(config, stats)
    except (OSError, ValueError) as error:  # no network, and its tokenizer has to be downloaded
        raise _not_there(config, error) from None


def _load_processors(folder: Path, device: str, kind: Kind) -> tuple[Any, Any]:
    names = [str(folder / each.name) for each in kind.inside if each.tokenizer]
    return library.load_processors(folder, device, {TOKENIZER_STEP: {"tokenizer_name": names[0]}} if names else None)


def load_model(checkpoint: Path, device: str) -> PolicyModel:
    """The policy in a checkpoint's folder, on ``device``, in float32.

    Raises PositronicError when the checkpoint is not whole, or is of a policy that this lerobot does not know.
    """
    recipe, folder = trained_recipe(read_info(checkpoint)), checkpoint / PRETRAINED_MODEL
    device = resolve_device(device)
    config = _without_download(load_config(folder, device))
    kind = kind_of(config.type)
    policy = _on_device(_build(_from_folder(config, kind, folder), True), device)
    load_weights(policy, folder, device)
    before, after = _load_processors(folder, device, kind)
    parts = Parts(config, policy.eval(), before, after, steps_of(recipe, config.type), kind.reads_task)
    noise_shape = kind.noise and kind.noise(config)
    return PolicyModel(parts, partial(kind.act, policy), recipe, device, noise_shape)


def _require_base(base: Path, config: Any, recipe: Recipe, device: str) -> None:
    """Raise PositronicError when ``base`` is of another policy, before one is built: some have billions of weights."""
    own = own_checkpoint(base)
    if own is not None:
        own.require_same(VENDOR, recipe, described(config), kind_of(config.type).horizon)
    elif load_config(base, device).type != config.type:
        raise PositronicError(f"vendor.base={base}: expected a '{config.type}', found another policy.")


def _start_from(base: Path, parts: Parts, device: str) -> None:
    """Take the weights of a checkpoint of ours, or of a folder of LeRobot's."""
    own = own_checkpoint(base)
    if own is None:
        load_weights(parts.module, base, device)
        return
    try:
        load_weights(parts.module, own.weights, device)
    except PositronicError as error:
        raise PositronicError(f"{error} {own.other_fields(described(parts.config))}".strip()) from None


def _fetched(config: Any, inside: Inside, resumed: Path | None) -> dict[str, bytes]:
    """Config, tokenizer, processor by the names of their files, which may be gone when a checkpoint is written; of a
    run that is resumed those in its checkpoint ``resumed``."""
    import transformers

    if resumed is not None:
        return _files(resumed / inside.name)
    name = inside.source(config)
    with TemporaryDirectory() as folder:
        try:
            for each in inside.classes:
                getattr(transformers, each).from_pretrained(name).save_pretrained(folder)
        except (OSError, ValueError) as error:
            raise _not_there(config, error) from None
        return _files(Path(folder))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _name_tokenizer(before: Any, kind: Kind) -> None:
    """What a checkpoint calls the place of the tokenizer, which has been loaded."""
    for name in (each.name for each in kind.inside if each.tokenizer):
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


@contextmanager
def _random_weights(policy: type, names: tuple[str, ...]) -> Iterator[None]:
    """Inside, the classes ``names`` in the policy's module read a config where they would read weights too."""
    if not names:
        yield
        return
    module = vars(sys.modules[policy.__module__])
    with _one_at_a_time:
        own = {name: module[name] for name in names}
        module.update({name: _Random(each) for name, each in own.items()})
        try:
            yield
        finally:
            module.update(own)


@dataclass(frozen=True)
class _Random:
    """A class of transformers' that is given its config alone."""

    cls: Any

    def from_pretrained(self, name: str) -> Any:
        return self.cls(self.cls.config_class.from_pretrained(name))


def _build(config: Any, is_loaded_next: bool = False) -> Any:
    """A policy. ``is_loaded_next``: with any weights, as others are loaded into it."""
    backbones.register()
    policy, names = library.policy_class(config.type), kind_of(config.type).weights
    try:
        with _random_weights(policy, names if is_loaded_next else ()):
            return policy(config)
    except OSError as error:  # no network, and something has to be downloaded
        raise _not_there(config, error) from None
    except (ValueError, TypeError, NotImplementedError, AssertionError, RuntimeError, AttributeError) as error:
        raise PositronicError(
            f"vendor.policy: LeRobot's '{config.type}' cannot be built with these values: {error}"
        ) from None


def _not_there(config: Any, error: OSError) -> PositronicError:
    inside, said = kind_of(config.type).inside, str(error).strip().partition("\n")[0]
    if not inside:
        name = getattr(config, BACKBONE_WEIGHTS, None)
        return PositronicError(
            f"The weights '{name}' could not be downloaded ({said}). "
            f"Take vendor.policy.{BACKBONE_WEIGHTS}=null to start from random ones."
        )
    fields, name = [each.field for each in inside], inside[0].source(config)
    if fields == [None]:
        return PositronicError(
            f"vendor.policy.type={config.type} reads its instructions with the tokenizer of {name}, which could not be "
            f"fetched from the Hugging Face hub ({said}). Accept its licence there and log in (hf auth login), or put "
            f"tokenizer.json and tokenizer_config.json of it into {name}/ of the folder in which you type this."
        )
    found = " ".join(f"vendor.policy.{field}={getattr(config, field)}" for field in fields)
    typed = " ".join(f"vendor.policy.{field}=<that folder>" for field in fields)
    random = f"; vendor.policy.{LANGUAGE_WEIGHTS}=false starts from random weights"
    return PositronicError(
        f"{found}: what it reads could not be fetched from the Hugging "
        f"Face hub ({said}). Fetch them where there is a network (hf download {name}) and type {typed}"
        f"{random if hasattr(config, LANGUAGE_WEIGHTS) else ''}."
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
