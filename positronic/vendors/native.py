"""The backend that trains and serves in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from positronic.codecs.build import Recipe
from positronic.policies.base import base_folder
from positronic.training.checkpoints import Checkpoint, list_checkpoints
from positronic.training.config import RANDOM
from positronic.training.device import limit_threads, threads_kept
from positronic.training.experiment import Experiment
from positronic.training.frames import Sides
from positronic.training.launch import Joining
from positronic.training.loop import train, train_along
from positronic.training.memory import refused_by_memory
from positronic.training.preflight import Preflight, measure
from positronic.training.ranks import of_rank
from positronic.training.settings import PROCESSES
from positronic.training.state import seed_everything
from positronic.training.trainable import PolicySpec, Trainable, TrainableFactory
from positronic.vendors.backend import Job
from positronic.vendors.config import VendorConfig
from positronic.vendors.model import ChunkModel


@dataclass(frozen=True)
class NativeBackend:
    """Our own training loop around a vendor's policies."""

    check_policy: Callable[[Recipe, Mapping[str, Any]], None]
    make_trainable: TrainableFactory
    load_model: Callable[[Path, str], ChunkModel]

    def require_installed(self, vendor: VendorConfig) -> None:
        """It is this process."""

    def train(self, job: Job) -> None:
        """Train in our loop: a run that is resumed goes on exactly."""
        trainable, settings = self.trainable(job), job.settings
        experiment = job.experiment(trainable.fields)
        start = experiment.continues_from((PROCESSES,) if settings.other_num_processes else ())
        if not job.begin(experiment, start, _summary(trainable, job)):
            return
        _tell_processes(job, start)
        reports, sides = (job.tracker, job.console), job.sides
        follow = partial(_follow, self, replace(job, console=None))  # which does not pickle
        with job.telling_how_to_go_on(), threads_kept():
            where = (sides.held_out, job.storage, follow)
            train(trainable, sides.training, of_rank(settings, 0), experiment, start, *reports, *where)

    def preflight(self, job: Job) -> Preflight:
        """Take some steps and look. Raises PositronicError when not even one sample fits in memory."""
        trainable, settings = self.trainable(job), job.settings
        try:
            return measure(trainable, job.sides.training, settings)
        except Exception as error:
            refused = refused_by_memory(error, settings.batch_size, settings.precision)
            if refused is None:
                raise
            raise refused from error

    def trainable(self, job: Job) -> Trainable:
        """The policy, from the weights that it starts from. A run that is resumed needs those no more: everything is in
        its last checkpoint.

        Raises PositronicError when they cannot be used, or it does not fit into memory.
        """
        vendor, settings, dataset = job.vendor, job.settings, job.sides.training
        last = list_checkpoints(job.folder)[-1:] if job.resume and job.folder else []
        resumed = last[0].pretrained_model if last else None
        where, of_vendor = (settings.device, settings.precision), (vendor.toy, vendor.mask_padding)
        limit_threads(settings.num_processes)
        seed_everything(settings.seed)
        try:
            with base_folder(RANDOM if resumed else vendor.base, job.storage) as base:
                how = (vendor.policy, *where, base, *of_vendor)
                return self.make_trainable(PolicySpec(job.recipe, dataset.stats, *how, dataset, resumed))
        except Exception as error:
            refused = refused_by_memory(error)
            if refused is None:
                raise
            raise refused from error


def _follow(
    backend: NativeBackend, job: Job, joining: Joining, experiment: Experiment, start: Checkpoint | None, frames: Sides
) -> None:
    """In another process of the run: build the same policy, and train along."""
    job, sides, settings = replace(job, settings=joining.settings, console=Console(quiet=True)), job.sides, job.settings
    try:
        train_along(backend.trainable(job), sides.training, sides.held_out, joining, experiment, start, frames)
    except Exception as error:
        refused = refused_by_memory(error, settings.batch_size, settings.precision)
        if refused is None:
            raise
        raise refused from error


def _tell_processes(job: Job, start: Checkpoint | None) -> None:
    """What a run by another number of processes keeps."""
    ours, theirs = job.settings.num_processes, start and start.info()["training"].get(PROCESSES, 1)
    if theirs not in (None, ours):
        job.say(
            f"{PROCESSES}={ours} instead of {theirs}: samples and their noise are those of the run before, but sums "
            "are rounded otherwise and dropout is drawn anew. It is not the same run bit for bit."
        )


def _summary(trainable: Trainable, job: Job) -> str:
    millions = sum(parameter.numel() for parameter in trainable.module.parameters()) / 1e6
    settings = job.settings
    return f"{trainable.fields['type']}, {millions:.1f} M parameters, on {settings.device} in {settings.precision}"
