"""Training by a vendor's own code: a child process in the vendor's environment, whose checkpoints become ours."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from positronic import keys
from positronic.bake.filling import start_arriving
from positronic.bake.reader import BakedDataset
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.policies.base import base_folder, own_checkpoint
from positronic.training.checkpoints import Checkpoint, list_checkpoints
from positronic.training.config import RANDOM
from positronic.training.experiment import METRICS_FILE, Experiment, save_checkpoint
from positronic.training.preflight import Preflight
from positronic.training.retention import Retention
from positronic.training.trackers import open_tracker
from positronic.upstream.checkout import Checkout, Repository, find_checkout
from positronic.upstream.child import Child, Command, Ended
from positronic.upstream.failures import Symptom, failure
from positronic.upstream.progress import ChildProgress, Reading
from positronic.upstream.takeover import Found, Takeover
from positronic.utils.command_line import instead, was_typed
from positronic.utils.processes import interruptible
from positronic.vendors.backend import Job
from positronic.vendors.config import VendorConfig
from positronic.vendors.model import ChunkModel

SCRATCH, LOG = "upstream", "upstream.log"  # in the experiment's folder


@dataclass(frozen=True)
class Fixed:
    """A parameter of stage=train that the vendor's own code does not take. ``value``: what it does instead.
    ``default``: what stands there if nobody says anything. ``why``: a clause for people."""

    value: Any
    default: Any
    why: str


class Trainer(Protocol):
    """What is the vendor's own in a training by its own code."""

    repository: Repository
    fixed: Mapping[str, Fixed]
    symptoms: Sequence[Symptom]

    def policy(self, recipe: Recipe, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Every field of the policy. Raises PositronicError for one that its command line does not take."""
        ...

    def require_possible(self, job: Job, checkout: Checkout, start: Checkpoint | None) -> None:
        """Raise PositronicError, before anything is written, for what its command would find out late or never."""
        ...

    def base(self, job: Job) -> AbstractContextManager[Path]:
        """The folder of the weights that ``vendor.base`` names. Raises PositronicError if they are not there."""
        ...

    def prepare(self, job: Job, base: Path, scratch: Path) -> None:
        """Write what the command needs into ``scratch``. ``base``: the folder of the weights to start from."""
        ...

    def command(self, job: Job, checkout: Checkout, base: Path, scratch: Path) -> Command:
        """What to run."""
        ...

    def parser(self, total: int) -> Callable[[str], Reading | None]:
        """What a line of its output says, of a run of so many steps."""
        ...

    def checkpoints(self, scratch: Path) -> Found:
        """Those in ``scratch`` that are whole."""
        ...

    def write_model(self, checkpoint: Path, folder: Path, scratch: Path) -> None:
        """What serving needs of ``checkpoint``, into ``folder``."""
        ...

    def write_state(self, checkpoint: Path, folder: Path) -> None:
        """What else resuming needs."""
        ...

    def restore(self, checkpoint: Checkpoint, scratch: Path) -> None:
        """Put a checkpoint of ours back to where the vendor's code resumes from."""
        ...

    def release(self, checkpoint: Path) -> None:
        """It was taken over: remove what the vendor's code would keep, and nobody needs twice."""
        ...


@dataclass(frozen=True)
class UpstreamBackend:
    """A vendor's own repository, in an environment of its own. ``load_model``: of the checkpoints that it makes, in
    this process where that can be. ``serve``: by a server of its own."""

    trainer: Trainer
    load_model: Callable[[Path, str], ChunkModel]
    serve: Callable[[Path, str, VendorConfig], ChunkModel]

    def check_policy(self, recipe: Recipe, policy: Mapping[str, Any]) -> None:
        """Raise PositronicError when the vendor's code cannot train this recipe, or does not take ``policy``."""
        self.trainer.policy(recipe, policy)

    def preflight(self, job: Job) -> Preflight:
        """Raises PositronicError: a step in another process cannot be looked into."""
        raise PositronicError(
            f"preflight=true measures a step in this process; {self.trainer.repository.name} trains in its own. Type "
            "vendor.backend=native beside it, or leave it out."
        )

    def require_installed(self, vendor: VendorConfig) -> None:
        """Raise PositronicError for a checkout or interpreter that is missing, with the command that helps."""
        find_checkout(self.trainer.repository, vendor.repo, vendor.python)

    def train(self, job: Job) -> None:
        """Run the vendor's training. A run that is resumed goes on from its last checkpoint, but not exactly: the
        vendor's code draws its samples anew.

        Raises PositronicError for what is missing or does not reach the vendor's code, and when that fails.
        """
        trainer = self.trainer
        checkout = find_checkout(trainer.repository, job.vendor.repo, job.vendor.python)
        self._require_possible(job)
        experiment = self._experiment(job, checkout)
        start = experiment.continues_from()
        trainer.require_possible(job, checkout, start)
        if not job.begin(experiment, start, f"{trainer.repository.name} at {checkout.repo}, {checkout.source}"):
            return
        if start is not None:
            job.say(
                f"{trainer.repository.name} goes on from step {start.step}, but draws its samples anew: not exactly."
            )
        scratch = experiment.folder / SCRATCH
        with job.telling_how_to_go_on(), _base(trainer, job, start) as base, _fresh(scratch):
            if start is not None:
                trainer.restore(start, scratch)
            wait_for_videos(job.sides.training)
            trainer.prepare(job, base, scratch)
            self._run(job, experiment, start, trainer.command(job, checkout, base, scratch))

    def _run(self, job: Job, experiment: Experiment, start: Checkpoint | None, command: Command) -> None:
        trainer, settings, folder = self.trainer, job.settings, experiment.folder
        scratch, done = folder / SCRATCH, start.step if start else 0
        tracker = open_tracker(job.tracker, folder, experiment.info)
        finite = _Finite(trainer.parser(settings.num_train_steps), folder)
        reports = (tracker, job.console, finite)
        with (
            ChildProgress(folder / METRICS_FILE, done, settings.num_train_steps, *reports) as report,
            interruptible(),
            Child(command, folder / LOG, report) as child,
        ):
            take = _Taking(trainer, experiment, Retention(settings.keep_last, settings.keep_every))
            there = [each.step for each in list_checkpoints(folder)]
            with Takeover(lambda: finite.only(trainer.checkpoints(scratch)), take, there, child.ask_to_end):
                ended = child.wait()
        self._require_trained(ended, job, folder)

    def _require_trained(self, ended: Ended, job: Job, folder: Path) -> None:
        name, steps = self.trainer.repository.name, job.settings.num_train_steps
        if ended.code:
            raise failure(ended, f"Training with {name}", self.trainer.symptoms)
        last = list_checkpoints(folder)[-1:]
        if not last or last[0].step < steps:
            found = f"checkpoint {last[0].id}" if last else "none"
            raise PositronicError(
                f"{name} ended without an error, but not with a checkpoint of step {steps}: found {found}. What it "
                f"printed is in {ended.log}."
            )

    def _experiment(self, job: Job, checkout: Checkout) -> Experiment:
        experiment = job.experiment(self.trainer.policy(job.recipe, job.vendor.policy))
        told = experiment.info["training"] | {"upstream": checkout.source.to_dict()}
        return replace(experiment, info={**experiment.info, "training": told})

    def _require_possible(self, job: Job) -> None:
        name, sides, found = self.trainer.repository.name, job.sides, job.sides.training.manifest.dataset_format
        if sides.training.manifest.reader.get("layout") == keys.LAYOUT_LEROBOT:
            raise PositronicError(
                f"{name} knows nothing of a mapping, by which {job.input_path} would be trained on as it is. Import it "
                "(stage=import source=lerobot) and convert that, or take vendor.backend=native."
            )
        if found != keys.FORMAT_V21:
            chosen = {"vendor": job.vendor.name, "codec": job.recipe.codec.name}
            raise PositronicError(
                f"{name} reads datasets of format {keys.FORMAT_V21}, and {job.input_path} is in {found}. Make "
                f"another:\n  {instead('convert', chosen, {'dataset_format': keys.FORMAT_V21})}"
            )
        if sides.held_out is not None or sides.said:
            raise PositronicError(
                f"{name} trains on every episode of a dataset, and of {job.input_path} these are chosen: {sides}. "
                "Choose when converting (dataset.episodes=, dataset.tasks=, without val_fraction=), or take "
                "vendor.backend=native."
            )
        if job.vendor.toy:
            raise PositronicError(f"vendor.toy=true is for vendor.backend=native: {name} builds its network itself.")
        if job.vendor.base == RANDOM:
            raise PositronicError(
                f"vendor.base={RANDOM}: {name} is given weights to start from. Type vendor.base=<folder or name on the "
                "hub>, or take vendor.backend=native."
            )
        for key, fixed in self.trainer.fixed.items():
            value = getattr(job.settings, key)
            if value not in (fixed.value, fixed.default) or (was_typed(key) and value != fixed.value):
                raise PositronicError(f"{key}={value} does not reach {name}: {fixed.why}. Leave it out.")


@dataclass(frozen=True)
class _Taking:
    """Makes a checkpoint of the experiment from one of the vendor's, and removes those that need not stay."""

    trainer: Trainer
    experiment: Experiment
    retention: Retention

    def __call__(self, step: int, checkpoint: Path) -> None:
        scratch = self.experiment.folder / SCRATCH

        def write_model(folder: Path) -> None:
            self.trainer.write_model(checkpoint, folder, scratch)

        save_checkpoint(self.experiment, step, write_model, lambda folder: self.trainer.write_state(checkpoint, folder))
        self.trainer.release(checkpoint)
        self.retention.prune(self.experiment.folder)


@contextmanager
def given_base(job: Job) -> Iterator[Path]:
    """The folder that ``vendor.base`` names; of a checkpoint of ours that with the vendor's own files."""
    with base_folder(job.vendor.base, job.storage) as base:
        own = own_checkpoint(base)
        yield base if own is None else own.weights


def wait_for_videos(dataset: BakedDataset) -> None:
    """Of a dataset in a bucket, which another process is about to read."""
    if dataset.arriving is not None:
        start_arriving(dataset, np.arange(len(dataset)))
        dataset.arriving.wait(show=True)


@contextmanager
def _base(trainer: Trainer, job: Job, start: Checkpoint | None) -> Iterator[Path]:
    """The folder of the weights: of the checkpoint that the run goes on from, or those that were asked for."""
    if start is not None:
        yield start.pretrained_model
        return
    with trainer.base(job) as base:
        yield base


@contextmanager
def _fresh(folder: Path) -> Iterator[None]:
    """An empty folder, which is there as long as the context lasts: all that is worth keeping is in checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Finite:
    """As ``parse``, but a loss that is no number ends the run, and checkpoints from there on are not worth keeping."""

    def __init__(self, parse: Callable[[str], Reading | None], folder: Path) -> None:
        self._parse, self._folder, self._until = parse, folder, math.inf

    def __call__(self, line: str) -> Reading | None:
        reading = self._parse(line)
        if reading is not None and not math.isfinite(reading.metrics.get("loss", 0.0)):
            self._until = reading.step
            raise PositronicError(
                f"The loss is {reading.metrics['loss']} at step {reading.step} ({self._folder}). Checkpoints before it "
                "are kept. If the data are right, lower learning_rate or lengthen warmup_fraction."
            )
        return reading

    def only(self, found: Found) -> Found:
        """Those before the loss was no number."""
        return ((step, folder) for step, folder in found if step < self._until)
