"""What stage=train needs before its first step: data, settings and policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from positronic.bake.reader import BakedDataset, open_baked
from positronic.codecs.build import Recipe
from positronic.policies.base import base_folder
from positronic.stages.foreign import Declared
from positronic.storage.folder import local_input
from positronic.training.checkpoints import list_checkpoints
from positronic.training.choice import Split, TrainChoice, split
from positronic.training.config import RANDOM
from positronic.training.device import limit_threads, resolve_device, resolve_precision
from positronic.training.memory import refused_by_memory
from positronic.training.settings import TrainSettings
from positronic.training.state import seed_everything
from positronic.training.trainable import PolicySpec, Trainable
from positronic.vendors import registry

if TYPE_CHECKING:
    from positronic.stages.train import Train


@contextmanager
def source_of(config: Train, foreign: Declared | None) -> Iterator[Path | Declared]:
    """What is trained on: the folder of a baked dataset, or a foreign one."""
    if foreign is not None:
        yield foreign
        return
    with local_input(config.input_path, config.storage) as root:
        yield root


@dataclass(frozen=True)
class Prepared:
    """What a run needs before its first step. ``recipe``: with reference rotations."""

    recipe: Recipe
    sides: Split
    settings: TrainSettings
    trainable: Trainable


def prepare(config: Train, recipe: Recipe, source: Path | Declared, folder: Path | None = None) -> Prepared:
    """From the baked dataset in the folder ``source``, or from a foreign one. ``folder``: of the experiment."""
    whole = _open(config, source, Console())
    recipe = whole.recipe if isinstance(source, Declared) else recipe
    sides, settings = split(whole, _choice(config)), _settings(config)
    limit_threads()
    seed_everything(settings.seed)
    return Prepared(recipe, sides, settings, _build(config, recipe, sides.training, settings, folder))


def _build(
    config: Train, recipe: Recipe, dataset: BakedDataset, settings: TrainSettings, folder: Path | None
) -> Trainable:
    """The policy, from the weights that it starts from. A run that is resumed needs those no more: everything is in the
    last checkpoint of the experiment in ``folder``.

    Raises PositronicError when it does not fit into memory.
    """
    vendor, make_trainable = config.vendor, registry.trainable(config.vendor.name, config.vendor.backend)
    where, of_vendor = (settings.device, settings.precision), (vendor.toy, vendor.mask_padding)
    last = list_checkpoints(folder)[-1:] if config.resume and folder else []
    resumed = last[0].pretrained_model if last else None
    try:
        with base_folder(RANDOM if resumed else vendor.base, config.storage) as base:
            how = (vendor.policy, *where, base, *of_vendor)
            return make_trainable(PolicySpec(recipe, dataset.stats, *how, dataset, resumed))
    except Exception as error:
        refused = refused_by_memory(error)
        if refused is None:
            raise
        raise refused from error


def _open(config: Train, source: Path | Declared, console: Console) -> BakedDataset:
    if isinstance(source, Declared):
        return source.open(config.vendor.name, console).dataset
    return open_baked(source, every_byte=True)


def _choice(config: Train) -> TrainChoice:
    values = {each.name: getattr(config, each.name) for each in fields(TrainChoice)}
    return TrainChoice(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _settings(config: Train) -> TrainSettings:
    values = {each.name: getattr(config, each.name) for each in fields(TrainSettings)}
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device, min(config.modality.image_size))
    return TrainSettings(**values | {"device": device, "precision": precision, "betas": tuple(config.betas)})
