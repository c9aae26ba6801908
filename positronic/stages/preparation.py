"""What stage=train needs before its first step: the dataset open, its sides chosen, and the settings resolved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from positronic.bake.reader import BakedDataset, open_arriving, open_baked
from positronic.bake.whole import is_video
from positronic.codecs.build import Recipe
from positronic.stages.foreign import Declared
from positronic.storage import join
from positronic.storage.folder import local_input, streamed_input
from positronic.storage.streaming import Arriving
from positronic.training.choice import TrainChoice, split
from positronic.training.device import require_processes, resolve_device, resolve_precision
from positronic.training.settings import TrainSettings
from positronic.vendors import registry
from positronic.vendors.backend import Job

if TYPE_CHECKING:
    from positronic.stages.train import Train


Source = Path | Arriving | Declared
"""A baked dataset in a folder, one whose videos are still on their way, or a foreign one."""


@contextmanager
def source_of(config: Train, foreign: Declared | None) -> Iterator[Source]:
    """What is trained on. Another process of a vendor's own code needs all files at once."""
    if foreign is not None:
        yield foreign
        return
    where = config.input_path, config.storage
    native = config.vendor.backend == registry.NATIVE
    with streamed_input(*where, is_video) if native and config.num_processes == 1 else local_input(*where) as root:
        yield root


def prepare(config: Train, recipe: Recipe, source: Source, folder: Path | None = None) -> Job:
    """A run on ``source``. ``folder``: of the experiment."""
    console, is_foreign = Console(), isinstance(source, Declared)
    whole = _open(config, source, console)
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


def _open(config: Train, source: Source, console: Console) -> BakedDataset:
    if isinstance(source, Declared):
        return source.open(config.vendor.name, console).dataset
    return open_arriving(source) if isinstance(source, Arriving) else open_baked(source, every_byte=True)


def _choice(config: Train) -> TrainChoice:
    values = {each.name: getattr(config, each.name) for each in fields(TrainChoice)}
    return TrainChoice(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _settings(config: Train) -> TrainSettings:
    values = {each.name: getattr(config, each.name) for each in fields(TrainSettings)}
    device = resolve_device(config.device)
    if config.vendor.backend == registry.NATIVE:
        require_processes(config.num_processes, config.batch_size, device)
    precision = resolve_precision(config.precision, device, min(config.modality.image_size))
    return TrainSettings(**values | {"device": device, "precision": precision, "betas": tuple(config.betas)})
