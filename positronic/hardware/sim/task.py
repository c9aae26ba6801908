"""What a task is to the simulator: which things it needs, when it is done, and the expert that shows it."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from positronic.errors import PositronicError, did_you_mean, listing
from positronic.hardware.robot import Scores
from positronic.hardware.sim import tasks
from positronic.hardware.sim.config import SimConfig
from positronic.hardware.sim.expert import Expert
from positronic.hardware.sim.state import SceneState

SUCCESS_SCORE = 0.95
SUCCESS_HOLD_NS = 250_000_000


@dataclass(frozen=True)
class Task(ABC):
    """The task of one episode. A subclass says what is done with which things; a module names its own as ``TASK``.

    ``things``: names that the scene must have. ``limits``: names that ``scoring`` must have. ``scores``: how a success
    is called and recorded.
    """

    things: ClassVar[tuple[str, ...]]
    limits: ClassVar[tuple[str, ...]]
    scores: ClassVar[Scores]

    config: SimConfig
    seed: int

    @abstractmethod
    def parts(self, state: SceneState) -> dict[str, float]:
        """What a success consists of, each part 0..1. The least of them is the score."""

    @abstractmethod
    def course(self, state: SceneState) -> float:
        """What is drawn over time (``scores.course``), in SI units."""

    @abstractmethod
    def expert(self) -> Expert:
        """Who can do it, knowing where everything is."""

    @property
    @abstractmethod
    def handled(self) -> str:
        """Name of the thing that is moved. A recovery starts beside it."""

    @property
    def instruction(self) -> str:
        """What a policy is told."""
        return self.config.task

    @property
    def scene_seed(self) -> int:
        """From which the scene is drawn; episodes with the same one begin alike."""
        return self.seed

    def facts(self) -> dict[str, Any]:
        """What else a recording says of the scene: JSON-ready, without prefix."""
        return {}

    def metrics(self, state: SceneState) -> dict[str, float]:
        """The score, its parts and the course, by the names under which they are recorded."""
        return self.named(self.parts(state), state)

    def named(self, parts: Mapping[str, float], state: SceneState) -> dict[str, float]:
        """The metrics of a score that consists of ``parts``."""
        named = {f"{self.scores.score}.{name}": value for name, value in parts.items()}
        return {self.scores.score: min(parts.values()), **named, self.scores.course: self.course(state)}

    def scorer(self) -> Scorer:
        """Scores the episode, moment by moment."""
        return Scorer(self)

    def judge(self) -> SuccessHold:
        """Says when the score has been good for long enough."""
        return SuccessHold(self.scores.score)


class Scorer:
    """Scores one episode of ``task``. A subclass may let count what came before."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def metrics(self, time_ns: int, state: SceneState) -> dict[str, float]:
        """The task's metrics at ``time_ns``, in order of time."""
        return self._task.metrics(state)


class SuccessHold:
    """A success is a score of at least 0.95 that lasts 0.25 s. ``success_ns``: when it had lasted, None until then.

    ``name``: of the score among the metrics.
    """

    def __init__(self, name: str, score: float = SUCCESS_SCORE, hold_ns: int = SUCCESS_HOLD_NS) -> None:
        self._name, self._score, self._hold_ns = name, score, hold_ns
        self._since_ns: int | None = None
        self.success_ns: int | None = None

    def update(self, time_ns: int, metrics: Mapping[str, float]) -> bool:
        """Take the metrics at ``time_ns``, in order of time; whether there has been a success so far."""
        if metrics[self._name] < self._score:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = time_ns
        elif self.success_ns is None and time_ns - self._since_ns >= self._hold_ns:
            self.success_ns = time_ns
        return self.success_ns is not None


def below(value: float, limit: float) -> float:
    """1 up to ``limit``, falling to 0 half a limit further on."""
    return float(np.clip(3 - 2 * value / limit, 0, 1))


def above(value: float, limit: float) -> float:
    """1 from ``limit`` on, falling to 0 half a limit before it."""
    return float(np.clip(2 * value / limit - 1, 0, 1))


def task_of(config: SimConfig) -> type[Task]:
    """The task that ``config`` names.

    Raises PositronicError when there is none of that name, or the config lacks a thing or a limit that it needs.
    """
    task = _load(config.task_name)
    for what, needed, found in (
        ("scene.things", task.things, config.scene.things),
        ("scoring", task.limits, config.scoring),
    ):
        if set(needed) != set(found):
            raise PositronicError(
                f"The task '{config.task_name}' needs hardware.{what} {listing(needed)}; found {listing(found)}."
                " A file of conf/hardware names a task together with them, e.g. hardware=sim."
            )
    for name, limit in config.scoring.items():
        if not limit > 0:
            raise PositronicError(f"hardware.scoring.{name}={limit}: expected a number above 0.")
    return task


def _load(name: str) -> type[Task]:
    module = name if "." in name else f"{tasks.__name__}.{name}"
    try:
        task = getattr(importlib.import_module(module), "TASK", None)
    except ModuleNotFoundError as missing:
        if not module.startswith(str(missing.name)):
            raise
        known = tasks.names()
        raise PositronicError(
            f"hardware.task_name={name}: there is no module {module}. Tasks here are {listing(known)}; one of your own"
            f" is named with its package, e.g. my_package.my_task.{did_you_mean(name, known)}"
        ) from None
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise PositronicError(f"{module} names no task: expected TASK = <a subclass of Task> there, found {task!r}.")
    return task
