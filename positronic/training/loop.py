"""The training loop: the same for every policy that trains in this process."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from positronic.bake.frame_source import CachedFrames
from positronic.bake.reader import BakedDataset
from positronic.errors import PositronicError
from positronic.storage import StorageConfig
from positronic.training.batches import BatchMaker, SampleOrder, iterate
from positronic.training.checkpoints import Checkpoint, list_checkpoints
from positronic.training.config import TrackerConfig
from positronic.training.device import autocast, to_device
from positronic.training.experiment import Experiment, save_checkpoint
from positronic.training.frames import open_sides
from positronic.training.memory import require_room
from positronic.training.optimisation import lr_factor, make_optimiser, set_lr
from positronic.training.reporting import Reporter, open_tracker
from positronic.training.settings import TrainSettings
from positronic.training.state import load_state, save_state
from positronic.training.trainable import Trainable
from positronic.training.validation import Validation
from positronic.utils.processes import STOPPING, outlive_terminal


class StoppedError(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP; the checkpoint of the last finished step, if there is one, was written."""


class _NoBatchNeededError(KeyboardInterrupt):
    """A signal while no step was under way."""


def train(
    trainable: Trainable,
    dataset: BakedDataset,
    settings: TrainSettings,
    experiment: Experiment,
    start: Checkpoint | None,
    tracker: TrackerConfig,
    console: Console,
    held_out: BakedDataset | None = None,
    storage: StorageConfig | None = None,
) -> None:
    """Train from ``start`` (None: from scratch) to ``settings.num_train_steps``. ``held_out``: episodes whose loss is
    told at each checkpoint. ``storage``: whose cache takes decoded frames that do not fit in memory; None: none does.

    Raises PositronicError when the loss is not finite, and StoppedError after Ctrl-C or SIGTERM. Then the checkpoint of
    the last finished step is on disk.
    """
    learner = Learner(trainable, settings)
    if start:
        learner.restore(start)
    first = start.step if start else 0
    frames, seldom = open_sides(dataset, held_out, settings, storage, console)
    validation = held_out and Validation(trainable, held_out, seldom, settings)
    order = SampleOrder(len(dataset), settings.batch_size, settings.seed)
    maker = BatchMaker(dataset, frames, order, trainable.action_offsets, trainable.with_task)
    workers = 0 if isinstance(frames, CachedFrames) else settings.num_workers
    require_room(trainable, maker.first_of, settings, workers)
    batches = iterate(maker, first, settings.num_train_steps, workers)
    sink = open_tracker(tracker, experiment.folder, experiment.info)
    with (
        Reporter(experiment.metrics, first, settings.num_train_steps, sink, console) as report,
        _stop_signals() as stop,
    ):
        try:
            _run(learner, batches, first, settings, experiment, report, stop, validation)
        finally:
            batches.close()


def _run(
    learner: Learner,
    batches: Iterator[Mapping[str, Any]],
    first: int,
    settings: TrainSettings,
    experiment: Experiment,
    report: Reporter,
    stop: _Stop,
    validation: Validation | None,
) -> None:
    clock = _Clock(settings.batch_size)
    for step in range(first + 1, settings.num_train_steps + 1):
        try:
            with stop.interrupting(), clock.waiting():
                batch = next(batches)
        except _NoBatchNeededError:
            raise _stopped_waiting(learner, experiment, step - 1) from None
        learner.step(batch, step)
        clock.steps += 1
        report.step(step)
        last = step == settings.num_train_steps
        saves = step % settings.save_freq == 0 or last or stop.requested
        if saves or step % settings.log_freq == 0:
            learner.check_finite(step, experiment)
        row = _validated(validation, stop) if saves else {}
        if step % settings.log_freq == 0 or last or row:
            report.metrics({"step": step, **learner.take_metrics(), **row, **clock.take()})
        if saves:
            save_checkpoint(experiment, step, learner.trainable.save, learner.save_state)
        if saves and stop.requested and not last:
            raise _stopped(experiment, step)


def _validated(validation: Validation | None, stop: _Stop) -> dict[str, float]:
    """The loss of the held-out episodes, unless there are none or somebody waits for the run to stop."""
    loss = None if validation is None else validation.loss(lambda: stop.requested)
    return {} if loss is None else {"val_loss": loss}


def _stopped_waiting(learner: Learner, experiment: Experiment, step: int) -> StoppedError:
    """No batch is under way, so that everything is as it was after ``step``: the checkpoint is that of this step."""
    if step and step not in (checkpoint.step for checkpoint in list_checkpoints(experiment.folder)):
        learner.check_finite(step, experiment)
        save_checkpoint(experiment, step, learner.trainable.save, learner.save_state)
    return _stopped(experiment, step)


def _stopped(experiment: Experiment, step: int) -> StoppedError:
    if not step:
        return StoppedError("Stopped before the first step; there is no checkpoint yet.")
    return StoppedError(f"Stopped after step {step}; its checkpoint is in {experiment.folder}.")


class Learner:
    """A policy with its optimiser: one step at a time."""

    def __init__(self, trainable: Trainable, settings: TrainSettings) -> None:
        self.trainable = trainable
        self._settings = settings
        groups = trainable.groups()
        adam = settings.weight_decay, settings.betas, settings.eps
        self._optimiser = make_optimiser(groups, settings.learning_rate, *adam)
        self._parameters = [parameter for group in groups for parameter in group.parameters]
        self._losses: list[Tensor | float] = []  # tensors stay on the device until they are asked for
        self._grad_norms: list[Tensor | float] = []
        self._lr = 0.0

    def step(self, batch: Mapping[str, Any], step: int) -> None:
        """One step of the optimiser; ``step`` is 1-based."""
        settings = self._settings
        shape = settings.lr_schedule, settings.warmup_fraction, settings.final_lr_fraction
        self._lr = set_lr(self._optimiser, lr_factor(step, settings.num_train_steps, *shape))
        self.trainable.module.train()
        columns = to_device(batch, settings.device)
        with autocast(settings.device, settings.precision):
            loss = self.trainable.loss(columns)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, settings.grad_clip_norm)
        self._optimiser.step()
        self._losses.append(loss.detach())
        self._grad_norms.append(norm.detach())

    def check_finite(self, step: int, experiment: Experiment) -> None:
        """Raise PositronicError naming the first step whose loss was not a finite number."""
        self._losses = _numbers(self._losses)
        bad = next((i for i, loss in enumerate(self._losses) if not math.isfinite(loss)), None)
        if bad is None:
            return
        bad_step = step - len(self._losses) + 1 + bad
        checkpoints = list_checkpoints(experiment.folder)
        kept = f"Checkpoint {checkpoints[-1].id} is kept." if checkpoints else "There is no checkpoint yet."
        raise PositronicError(
            f"The loss became {self._losses[bad]} at step {bad_step} ({experiment.folder}). {kept} "
            "Lower learning_rate or grad_clip_norm, lengthen warmup_fraction, or take precision=fp32."
        )

    def take_metrics(self) -> dict[str, float]:
        """Means over the steps since the last call."""
        losses, norms = _numbers(self._losses), _numbers(self._grad_norms)
        self._losses, self._grad_norms = [], []
        return {"loss": _mean(losses), "lr": self._lr, "grad_norm": _mean(norms)}

    def save_state(self, folder: Any) -> None:
        """Write what ``restore`` needs beside the weights."""
        pending = {"losses": _numbers(self._losses), "grad_norms": _numbers(self._grad_norms)}
        save_state(folder, self._optimiser, pending)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue where ``checkpoint`` was written."""
        self.trainable.load(checkpoint.pretrained_model)
        pending = load_state(checkpoint.training_state, self._optimiser)
        self._losses, self._grad_norms = list(pending["losses"]), list(pending["grad_norms"])


class _Clock:
    """Samples per second, and the share of time spent waiting for data."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.steps = 0
        self._waited = 0.0
        self._began = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def take(self) -> dict[str, float]:
        now = time.perf_counter()
        seconds = now - self._began
        row = {"samples_per_sec": self.steps * self._batch_size / seconds, "data_wait": self._waited / seconds}
        self.steps, self._waited, self._began = 0, 0.0, now
        return row


class _Stop:
    """The first signal stops the run after the step under way, so that no step is cut in two, or ends a wait between
    two steps. The second one interrupts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._waits = False

    def request(self, number: int, frame: Any) -> None:
        """Handle signal ``number``."""
        outlive_terminal(number)
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._waits:
            raise _NoBatchNeededError

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside, the first signal raises _NoBatchNeededError; so does entering after it."""
        try:
            self._waits = True  # before the look: a signal between the two is heard
            if self.requested:
                raise _NoBatchNeededError
            yield
        finally:
            self._waits = False


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    without_hup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # started with ``nohup``
    ours = [number for number in STOPPING if number != signal.SIGHUP or not without_hup]
    before = {number: signal.signal(number, stop.request) for number in ours}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers(values: list[Tensor | float]) -> list[float]:
    """Floats. Those that are still on the device are transferred together."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    fetched = iter(torch.stack(tensors).float().tolist() if tensors else [])
    return [next(fetched) if isinstance(value, Tensor) else value for value in values]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
