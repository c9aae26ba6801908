"""Time of a training step: in our loop, and of forward, backward and the optimiser's step alone."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from positronic.bake.reader import BakedDataset
    from positronic.training.settings import TrainSettings
    from positronic.training.trainable import Trainable

WARM_UP = 5  # steps; before the first one, batches may be measured to see whether a step fits in memory
BATCHES = 4  # that the bare step has beforehand


@dataclass(frozen=True)
class Steps:
    """``loop``, ``bare``: (N, 2) seconds of steps that took turns, by the clock and of all threads together."""

    loop: np.ndarray
    bare: np.ndarray

    @property
    def overhead(self) -> np.ndarray:
        """Percent by which a step of the loop is longer, (2,): the median."""
        return (np.median(self.loop / self.bare, axis=0) - 1) * 100


@dataclass(frozen=True)
class Case:
    """A policy on a dataset."""

    dataset: BakedDataset
    trainable: Trainable
    settings: TrainSettings


def make_case(root: Path, overrides: list[str]) -> Case:
    """``overrides``: what one types for stage=train."""
    import positronic
    from positronic.bake.reader import open_baked
    from positronic.stages.preparation import prepare
    from positronic.vendors import registry

    config = positronic.compose([*overrides, f"input_path={root}"])
    job = prepare(config, open_baked(root).recipe, root)
    return Case(job.sides.training, registry.backend_of(config.vendor.name).trainable(job), job.settings)


def measure_steps(case: Case, scratch: Path) -> Steps:
    """Run the training loop, with a bare step after each of its own."""
    from rich.console import Console

    from positronic.training.config import TrackerConfig
    from positronic.training.experiment import Experiment, make_info
    from positronic.training.loop import train

    dataset, settings, taking_turns = case.dataset, case.settings, TakingTurns(case)
    info = make_info(dataset, settings, "lerobot", "native", case.trainable.fields, dataset.recipe, {"commit": None})
    console = Console(file=io.StringIO())
    train(taking_turns, dataset, settings, Experiment(scratch, info), None, TrackerConfig("none"), console)
    return taking_turns.steps


class TakingTurns:
    """A policy for the loop that makes a bare step before each of its losses: so a machine that is busy with other
    things hurts both alike."""

    def __init__(self, case: Case) -> None:
        self._trainable, self._bare_step = case.trainable, bare_step(case)
        self._loop: list[np.ndarray] = []
        self._bare: list[np.ndarray] = []
        self._since = now()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainable, name)

    def loss(self, batch: Mapping[str, Any]) -> Any:
        """The policy's own. From here to the next call is a step of the loop."""
        began = now()
        self._loop.append(began - self._since)
        self._bare_step()
        self._since = now()
        self._bare.append(self._since - began)
        return self._trainable.loss(batch)

    @property
    def steps(self) -> Steps:
        """Each of the loop's with the bare one after it."""
        return Steps(np.array(self._loop[WARM_UP:]), np.array(self._bare[WARM_UP:]))


def now() -> np.ndarray:
    """Seconds of the clock, and of this process's threads."""
    return np.array([time.perf_counter(), time.process_time()])


def bare_step(case: Case) -> Callable[[], None]:
    """Forward, backward, clipping and the optimiser's step on batches that are tensors on the device already."""
    import torch

    from positronic.bake.frame_source import in_memory
    from positronic.training.batches import BatchMaker, SampleOrder
    from positronic.training.device import to_device
    from positronic.training.optimisation import make_optimiser

    trainable, settings = case.trainable, case.settings
    order = SampleOrder(len(case.dataset), settings.batch_size, settings.seed)
    maker = BatchMaker(case.dataset, in_memory(case.dataset), order, trainable.action_offsets, trainable.with_task)
    batches = cycle([to_device(maker[step], settings.device) for step in range(BATCHES)])
    groups = trainable.groups()
    optimiser = make_optimiser(groups, settings.learning_rate, settings.weight_decay, settings.betas, settings.eps)
    parameters = [parameter for group in groups for parameter in group.parameters]

    def step() -> None:
        loss = trainable.loss(next(batches))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.grad_clip_norm)
        optimiser.step()

    return step
