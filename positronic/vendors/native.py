"""The backend that trains and serves in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from positronic.codecs.build import Recipe
from positronic.policies.base import base_folder
from positronic.training.checkpoints import list_checkpoints
from positronic.training.config import RANDOM
from positronic.training.device import limit_threads
from positronic.training.loop import train
from positronic.training.memory import refused_by_memory
from positronic.training.preflight import Preflight, measure
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
        start = experiment.continues_from()
        if not job.begin(experiment, start, _summary(trainable, job)):
            return
        with job.telling_how_to_go_on():
            reports = (job.tracker, job.console)
            train(trainable, job.sides.training, settings, experiment, start, *reports, job.sides.held_out, job.storage)

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
        limit_threads()
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


def _summary(trainable: Trainable, job: Job) -> str:
    millions = sum(parameter.numel() for parameter in trainable.module.parameters()) / 1e6
    settings = job.settings
    return f"{trainable.fields['type']}, {millions:.1f} M parameters, on {settings.device} in {settings.precision}"
