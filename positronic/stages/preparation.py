"""What stage=train needs before its first step: the dataset open, its sides chosen, and the settings resolved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from positronic.bake.reader import open_baked
from positronic.codecs.build import Recipe
from positronic.stages.foreign import Declared
from positronic.storage import join
from positronic.storage.folder import local_input
from positronic.training.choice import TrainChoice, split
from positronic.training.device import resolve_device, resolve_precision
from positronic.training.settings import TrainSettings
from positronic.vendors.backend import Job

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


def prepare(config: Train, recipe: Recipe, source: Path | Declared, folder: Path | None = None) -> Job:
    """A run on the baked dataset in the folder ``source``, or on a foreign one. ``folder``: of the experiment."""
    console, is_foreign = Console(), isinstance(source, Declared)
    whole = source.open(config.vendor.name, console).dataset if is_foreign else open_baked(source, every_byte=True)
    return Job(
        vendor=config.vendor,
        recipe=whole.recipe if is_foreign else recipe,
        sides=split(whole, _choice(config)),
        settings=_settings(config),
        input_path=config.dataset.path if is_foreign else config.input_path,
        place=str(join(config.output_dir, config.exp_name)),
        folder=folder,
        resume=config.resume,
        texts=source.texts if is_foreign else {},
        tracker=config.tracker,
        storage=config.storage,
        console=console,
    )


def _choice(config: Train) -> TrainChoice:
    values = {each.name: getattr(config, each.name) for each in fields(TrainChoice)}
    return TrainChoice(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _settings(config: Train) -> TrainSettings:
    values = {each.name: getattr(config, each.name) for each in fields(TrainSettings)}
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device, min(config.modality.image_size))
    return TrainSettings(**values | {"device": device, "precision": precision, "betas": tuple(config.betas)})
