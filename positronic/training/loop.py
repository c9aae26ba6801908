"""The training loop: the same for every policy that trains in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from positronic.bake.reader import BakedDataset
from positronic.errors import PositronicError, listing
from positronic.storage import StorageConfig
from positronic.training.batches import BatchMaker, SampleOrder, iterate
from positronic.training.checkpoints import VAL_LOSS, Checkpoint, list_checkpoints
from positronic.training.config import TrackerConfig
from positronic.training.experiment import Experiment, save_checkpoint
from positronic.training.frames import open_sides
from positronic.training.learner import Learner
from positronic.training.memory import require_room
from positronic.training.reporting import Reporter
from positronic.training.retention import Retention
from positronic.training.settings import TrainSettings
from positronic.training.stopping import NoBatchNeededError, Stop, StoppedError, stop_signals
from positronic.training.trackers import open_tracker
from positronic.training.trainable import Trainable
from positronic.training.validation import Validation


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

    Raises PositronicError when the loss is not finite, and StoppedError after a signal. Then the checkpoint of
    the last finished step is on disk.
    """
    learner = Learner(trainable, settings)
    if start:
        learner.restore(start)
    first = start.step if start else 0
    order = SampleOrder(len(dataset), settings.batch_size, settings.seed)
    with closing(open_sides(dataset, held_out, settings, storage, console, order.due(first))) as frames:
        validation = held_out and Validation(trainable, held_out, frames.held_out, settings)
        maker = BatchMaker(dataset, frames.training, order, trainable.action_offsets, trainable.with_task)
        workers = settings.num_workers if frames.by_processes else 0
        require_room(trainable, maker.first_of, settings, workers)
        batches = iterate(maker, first, settings.num_train_steps, workers)
        sink = open_tracker(tracker, experiment.folder, experiment.info)
        with (
            stop_signals() as stop,
            Reporter(experiment.metrics, first, settings.num_train_steps, sink, console, frames) as report,
        ):
            try:
                _Run(learner, maker, settings, experiment, report, stop, validation).train(batches, first)
            finally:
                batches.close()


@dataclass(frozen=True)
class _Run:
    """What a run is made of. ``maker``: what its batches are."""

    learner: Learner
    maker: BatchMaker
    settings: TrainSettings
    experiment: Experiment
    report: Reporter
    stop: Stop
    validation: Validation | None

    def train(self, batches: Iterator[Mapping[str, Any]], start: int) -> None:
        """The steps after ``start``, one for each of ``batches``, to the last one."""
        learner, settings, stop, report = self.learner, self.settings, self.stop, self.report
        clock = _Clock(settings.batch_size)
        for step in range(start + 1, settings.num_train_steps + 1):
            try:
                with stop.interrupting(), clock.waiting():
                    batch = next(batches)
            except NoBatchNeededError:
                raise self._stopped_waiting(step - 1) from None
            learner.step(batch, step)
            clock.steps += 1
            report.step(step)
            last = step == settings.num_train_steps
            saves = step % settings.save_freq == 0 or last or stop.requested
            if saves or step % settings.log_freq == 0:
                self._require_finite(step)
            row = self._validated() if saves else {}
            if step % settings.log_freq == 0 or last or row:
                report.metrics({"step": step, **learner.take_metrics(), **row, **clock.take()})
            if saves:
                self._save(step, row)
            if saves and stop.requested and not last:
                raise self._stopped(step)

    def _save(self, step: int, told: Mapping[str, float]) -> None:
        save_checkpoint(self.experiment, step, self.learner.save_model, self.learner.save_state, told)
        Retention(self.settings.keep_last, self.settings.keep_every).prune(self.experiment.folder)

    def _validated(self) -> dict[str, float]:
        """The loss of the held-out episodes, unless there are none or somebody waits for the run to stop."""
        with self.learner.judged():
            loss = None if self.validation is None else self.validation.loss(lambda: self.stop.requested)
        return {} if loss is None else {VAL_LOSS: loss}

    def _require_finite(self, step: int) -> None:
        """Raise PositronicError, naming the step and the episodes of its batch, when nothing is learned any more."""
        trouble = self.learner.trouble(step)
        if trouble is None:
            return
        bad_step, what = trouble
        checkpoints = list_checkpoints(self.experiment.folder)
        kept = f"Checkpoint {checkpoints[-1].id} is kept." if checkpoints else "There is no checkpoint yet."
        episodes = self.maker.episodes(bad_step - 1)
        raise PositronicError(
            f"{what} at step {bad_step} ({self.experiment.folder}). {kept} Its batch is of the dataset's episodes "
            f"{listing(map(str, episodes), 40)}. If they are right, lower learning_rate or grad_clip_norm, lengthen "
            "warmup_fraction, or take precision=fp32."
        )

    def _stopped_waiting(self, step: int) -> StoppedError:
        """No batch is under way, so that everything is as it was after ``step``: the checkpoint is that of this
        step."""
        if step and step not in (checkpoint.step for checkpoint in list_checkpoints(self.experiment.folder)):
            self._require_finite(step)
            self._save(step, {})
        return self._stopped(step)

    def _stopped(self, step: int) -> StoppedError:
        if not step:
            return StoppedError("Stopped before the first step; there is no checkpoint yet.")
        return StoppedError(f"Stopped after step {step}; its checkpoint is in {self.experiment.folder}.")


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
