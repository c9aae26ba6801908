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
from positronic.training.frames import Sides, open_sides
from positronic.training.launch import Joining, Work, together
from positronic.training.learner import Learner
from positronic.training.memory import require_room
from positronic.training.ranks import ALONE, Alone
from positronic.training.reporting import Reporter, Silent
from positronic.training.retention import Retention
from positronic.training.settings import TrainSettings
from positronic.training.stopping import NoBatchNeededError, PatientStop, Stop, StoppedError, stop_signals
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
    follow: Work | None = None,
) -> None:
    """Train from ``start`` (None: from scratch) to ``settings.num_train_steps``. ``held_out``: episodes whose loss is
    told at each checkpoint. ``storage``: whose cache takes decoded frames that do not fit in memory; None: none does.
    ``follow``: what the other processes of ``settings.num_processes`` do, which calls ``train_along``.

    Raises PositronicError when the loss is not finite, and StoppedError after a signal. Then the checkpoint of
    the last finished step is on disk.
    """
    task = _Task(trainable, dataset, settings, experiment, start, held_out)
    with closing(open_sides(dataset, held_out, settings, storage, console, task.order.due(task.first))) as frames:
        require_room(trainable, task.maker(frames, ALONE).first_of, settings, task.workers(frames))
        with together(settings, follow, experiment, start, frames.for_other_processes()) as ranks:
            learner = task.learner(ranks)
            sink = open_tracker(tracker, experiment.folder, experiment.info)
            with (
                stop_signals(Stop(ranks.ask_to_stop)) as stop,
                Reporter(experiment.metrics, task.first, settings.num_train_steps, sink, console, frames) as report,
            ):
                task.run(learner, frames, ranks, report, stop)


def train_along(
    trainable: Trainable,
    dataset: BakedDataset,
    held_out: BakedDataset | None,
    joining: Joining,
    experiment: Experiment,
    start: Checkpoint | None,
    frames: Sides,
) -> None:
    """Train as ``train`` does, in a process that follows the one that called it and gives it ``frames``."""
    task = _Task(trainable, dataset, joining.settings, experiment, start, held_out)
    with joining.joined() as ranks, stop_signals(PatientStop()) as stop:
        task.run(task.learner(ranks), frames, ranks, Silent(), stop)


@dataclass(frozen=True)
class _Task:
    """What is to be trained, in any of the processes."""

    trainable: Trainable
    dataset: BakedDataset
    settings: TrainSettings
    experiment: Experiment
    start: Checkpoint | None
    held_out: BakedDataset | None

    @property
    def first(self) -> int:
        """Steps that are done."""
        return self.start.step if self.start else 0

    @property
    def order(self) -> SampleOrder:
        return SampleOrder(len(self.dataset), self.settings.batch_size, self.settings.seed)

    def learner(self, ranks: Alone) -> Learner:
        learner = Learner(self.trainable, self.settings, ranks)
        if self.start:
            learner.restore(self.start)
        return learner

    def maker(self, frames: Sides, ranks: Alone) -> BatchMaker:
        what = self.trainable.action_offsets, self.trainable.with_task
        return BatchMaker(self.dataset, frames.training, self.order, *what, (ranks.rank, ranks.count))

    def workers(self, frames: Sides) -> int:
        return self.settings.num_workers if frames.by_processes else 0

    def run(self, learner: Learner, frames: Sides, ranks: Alone, report: Reporter | Silent, stop: Stop) -> None:
        """All steps."""
        settings, maker = self.settings, self.maker(frames, ranks)
        validation = self.held_out and Validation(self.trainable, self.held_out, frames.held_out, settings, ranks)
        batches = iterate(maker, self.first, settings.num_train_steps, self.workers(frames))
        try:
            _Run(learner, maker, settings, self.experiment, report, stop, validation, ranks).train(batches, self.first)
        finally:
            batches.close()


@dataclass(frozen=True)
class _Run:
    """What a run is made of. ``maker``: what its batches are.

    Of several processes each takes the same way through it: whatever could differ is agreed on.
    """

    learner: Learner
    maker: BatchMaker
    settings: TrainSettings
    experiment: Experiment
    report: Reporter | Silent
    stop: Stop
    validation: Validation | None
    ranks: Alone

    def train(self, batches: Iterator[Mapping[str, Any]], start: int) -> None:
        """The steps after ``start``, one for each of ``batches``, to the last one."""
        learner, settings, stop, report = self.learner, self.settings, self.stop, self.report
        clock = _Clock(settings.batch_size)
        for step in range(start + 1, settings.num_train_steps + 1):
            batch = self._next(batches, clock)
            if self.ranks.any(batch is None):
                raise self._stopped_waiting(step - 1)
            learner.step(batch, step, self.maker.part(step - 1))
            clock.steps += 1
            report.step(step)
            last = step == settings.num_train_steps
            stops = self.ranks.count == 1 and stop.requested  # several processes agree on it before a step
            saves = step % settings.save_freq == 0 or last or stops
            if saves or step % settings.log_freq == 0:
                self._require_finite(step)
            row = self._validated() if saves else {}
            if step % settings.log_freq == 0 or last or row:
                report.metrics({"step": step, **learner.take_metrics(), **row, **clock.take()})
            if saves:
                self._save(step, row)
            if saves and stops and not last:
                raise self._stopped(step)

    def _next(self, batches: Iterator[Mapping[str, Any]], clock: _Clock) -> Mapping[str, Any] | None:
        """The next batch; None when a signal came instead."""
        try:
            with self.stop.interrupting(), clock.waiting():
                return next(batches)
        except NoBatchNeededError:
            return None

    def _save(self, step: int, told: Mapping[str, float]) -> None:
        self.learner.before_save()
        if self.ranks.is_first:
            save_checkpoint(self.experiment, step, self.learner.save_model, self.learner.save_state, told)
            Retention(self.settings.keep_last, self.settings.keep_every).prune(self.experiment.folder)
        self.ranks.any(False)  # all wait for the first

    def _validated(self) -> dict[str, float]:
        """The loss of the held-out episodes, unless there are none or somebody waits for the run to stop."""
        with self.learner.judged():
            stopped = lambda: self.ranks.any(self.stop.requested)  # noqa: E731
            loss = None if self.validation is None else self.validation.loss(stopped)
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
        saved = {checkpoint.step for checkpoint in list_checkpoints(self.experiment.folder)}
        if self.ranks.any(self.ranks.is_first and step > 0 and step not in saved):
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
