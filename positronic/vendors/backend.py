"""How a vendor's policies are trained and served: what stage=train hands over, and what each backend does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from positronic.codecs.build import Recipe
from positronic.codecs.table import contract_table
from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig
from positronic.storage.streaming import StreamError
from positronic.training.checkpoints import Checkpoint, list_checkpoints
from positronic.training.choice import Split
from positronic.training.config import TrackerConfig
from positronic.training.experiment import Experiment, make_info
from positronic.training.memory import refused_by_memory
from positronic.training.preflight import Preflight
from positronic.training.settings import TrainSettings
from positronic.training.stopping import StoppedError
from positronic.upstream.failures import ChildError
from positronic.utils.command_line import again
from positronic.utils.disk import refused_by_disk
from positronic.utils.files import replace_text
from positronic.utils.provenance import provenance
from positronic.vendors.config import VendorConfig
from positronic.vendors.model import ChunkModel


@dataclass(frozen=True)
class Job:
    """A training run, with its dataset open.

    ``recipe``: with reference rotations. ``sides``: the episodes to train on, and those held out. ``input_path``: what
    people call the dataset. ``folder``: of the experiment on this machine, None when a step is only to be measured;
    ``place``: what people call it. ``texts``: name -> content of files that it keeps beside its checkpoints.
    """

    vendor: VendorConfig
    recipe: Recipe
    sides: Split
    settings: TrainSettings
    input_path: str
    place: str
    folder: Path | None = None
    resume: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    console: Console = field(default_factory=Console)

    @property
    def title(self) -> str:
        """Of tables: ``lerobot: first_try``."""
        return f"{self.vendor.name}: {Path(self.place).name}"

    def experiment(self, policy: Mapping[str, Any]) -> Experiment:
        """The folder, and what each of its checkpoints says. ``policy``: every resolved field of its config."""
        vendor, settings = self.vendor, self.settings
        of_policy = (vendor.name, vendor.backend, policy)
        info = make_info(self.sides.training, settings, *of_policy, self.recipe, provenance(), self.sides.record)
        # not where a copy of it lies
        said = {"base": vendor.base, "mask_padding": vendor.mask_padding, "toy": vendor.toy}
        said |= {"input_path": self.input_path}
        info["training"] |= said
        return Experiment(self.folder, info)

    def begin(self, experiment: Experiment, start: Checkpoint | None, summary: str) -> bool:
        """Prepare the folder for a run from ``start`` and say what will be trained. False when there is nothing left
        to do."""
        steps = self.settings.num_train_steps
        if self.resume:
            self.say(_resumes(self.place, start, steps))
        if start is not None and start.step >= steps:
            return False
        experiment.prepare(start)
        for name, text in self.texts.items():
            replace_text(experiment.folder / name, text)
        self.console.print(contract_table(self.recipe, self.title))
        dataset = self.sides.training
        self.say(
            f"{summary}; {self.sides}, {len(dataset)} frames, {dataset.fps} fps; batch {self.settings.batch_size}."
        )
        return True

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def telling_how_to_go_on(self) -> Iterator[None]:
        """After a signal, a full disk, full memory, videos that did not come, or a vendor's process that failed: which
        checkpoint is the last, and what to type."""
        to_continue = f"To continue, type:\n  {again('resume=true')}"
        try:
            yield
        except KeyboardInterrupt as stopped:
            kept = str(stopped) if isinstance(stopped, StoppedError) else f"Stopped at once. {self._kept()}"
            self.say(f"{kept} {to_continue}")
            raise
        except Exception as error:
            by_memory = (self.settings.batch_size, self.settings.precision)
            says_all = isinstance(error, ChildError)  # what it means as well, and where its log is
            refused = None if says_all else refused_by_disk(error) or refused_by_memory(error, *by_memory)
            if refused is None and not (says_all or isinstance(error, StreamError)):
                raise
            stopped_there = f"Training into {self.folder} stopped. {self._kept()} {to_continue}"
            raise PositronicError(f"{refused or error}\n{stopped_there}") from error

    def _kept(self) -> str:
        checkpoints = list_checkpoints(self.folder)
        return f"The last checkpoint is {checkpoints[-1].id}." if checkpoints else "There is no checkpoint yet."


class Backend(Protocol):
    """Trains and serves one vendor's policies."""

    check_policy: Callable[[Recipe, Mapping[str, Any]], None]
    """Raises PositronicError when the vendor cannot train this recipe, or does not take these fields of a policy."""

    def require_installed(self, vendor: VendorConfig) -> None:
        """Raise PositronicError when what trains its policies is not there."""
        ...

    def train(self, job: Job) -> None:
        """Train into ``job.folder``, from its last checkpoint on when it is resumed.

        Raises PositronicError for everything that a user can mend, and KeyboardInterrupt after a signal.
        """
        ...

    def preflight(self, job: Job) -> Preflight:
        """What a step takes. Nothing is written."""
        ...

    def load_model(self, checkpoint: Path, device: str) -> ChunkModel:
        """The model in folder ``checkpoint`` on torch ``device``. Raises PositronicError when it cannot be loaded."""
        ...


def _resumes(place: str, start: Checkpoint | None, num_train_steps: int) -> str:
    if start is None:
        return f"resume=true, but {place} has no checkpoint yet: training starts at the beginning."
    if start.step >= num_train_steps:
        return (
            f"{place} is trained to step {start.step} already, num_train_steps={num_train_steps} asks for no more. "
            f"To train on, type num_train_steps=<more than {start.step}>."
        )
    planned = start.info()["training"]["num_train_steps"]
    longer = f" The learning rate now follows {num_train_steps} steps instead of {planned}."
    return f"Continuing {place} from step {start.step}.{longer if planned != num_train_steps else ''}"
