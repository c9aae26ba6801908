"""What a robot is to everything above it: a contract, a clock, an observation, a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from positronic import keys
from positronic.commands import Command
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, listing


def tick_ns(tick: int, fps: int) -> int:
    """When control step ``tick`` falls, rounded down to whole ns, so that a sample stays at its own point
    of the grid."""
    return tick * 10**9 // fps


@dataclass(frozen=True)
class Scores:
    """How a robot's task is reported: ``done`` is the word for a success ("stacked 98/100"), ``score`` the metric that
    decides, 0..1.

    ``course``: the metric that is drawn over time, times ``factor`` in ``unit``, under ``title``.
    """

    done: str
    score: str
    course: str
    title: str
    unit: str
    factor: float = 1.0


class Judge(Protocol):
    """Follows one episode's metrics. ``success_ns``: when the task was done, None until then."""

    success_ns: int | None

    def update(self, time_ns: int, metrics: Mapping[str, float]) -> bool:
        """Take the metrics at ``time_ns``, in order of time. Returns whether the task was done by then."""
        ...


@runtime_checkable
class Judged(Protocol):
    """A robot that knows when its task is done. Others, like a replayed recording, only play to their end."""

    def judge(self) -> Judge:
        """A judge for one episode."""
        ...


@dataclass(frozen=True)
class RobotContract:
    """What a robot measures and what it can be told.

    ``signals``: raw key -> shape, ``()`` for a scalar, cameras ``(height, width, 3)``. ``commands``: kinds that
    ``Robot.command`` accepts, by their name on the wire. ``conventions``: raw key -> what its numbers mean. ``scores``:
    those of a robot that is ``Judged``. ``embodiment``: which robot it is, None if nobody says. ``hint``: what else
    somebody can do whose policy does not fit. ``moves``: whether commands move anything; with a recording they are only
    compared.
    """

    name: str
    signals: dict[str, tuple[int, ...]]
    commands: frozenset[str]
    conventions: dict[str, str]
    scores: Scores | None = None
    embodiment: Embodiment | None = None
    hint: str = ""
    moves: bool = True

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms; an only arm has the empty name."""
        return arms_of(self.embodiment, self.signals)

    def has_gripper(self, arm: str) -> bool:
        """Whether there is a gripper at this arm's end."""
        if self.embodiment:
            return self.embodiment.by_name[arm].gripper is not None
        return keys.of_arm(keys.GRIP, arm) in self.signals

    def require_command(self, command: Command, arm: str = "") -> None:
        """Raise PositronicError when the robot has no such arm, or cannot be told ``command``."""
        if arm not in self.arms:
            found = f"found a command for {said_arms([arm])}"
            raise PositronicError(f"Robot '{self.name}' has {said_arms(self.arms)}; {found}.")
        if command.kind not in self.commands:
            raise PositronicError(
                f"Robot '{self.name}' does not take the command '{command.kind}'. It takes {listing(self.commands)}."
                " Choose a codec whose action is one of these, e.g. codec=ee."
            )

    def __str__(self) -> str:
        """The contract as a table."""
        width = max(map(len, self.signals), default=0)
        rows = [
            f"  {key:{width}}  {list(shape)!s:15}  {self.conventions.get(key, '')}".rstrip()
            for key, shape in self.signals.items()
        ]
        return "\n".join([f"robot {self.name}", *rows, f"  commands: {listing(self.commands)}"])


@runtime_checkable
class Stamped(Protocol):
    """A robot whose signals are measured at other moments than those at which it is observed, as on every
    real robot."""

    def measured_ns(self) -> Mapping[str, int]:
        """When each signal that ``observe`` would give now was measured, ns since the reset (before it: negative).

        What is not in it was measured now.
        """
        ...


def arms_of(embodiment: Embodiment | None, signals: Iterable[str]) -> tuple[str, ...]:
    """Names of the arms: those of the embodiment, or else those that the signals' names tell."""
    if embodiment:
        return tuple(arm.name for arm in embodiment.arms)
    split = [keys.split_arm(key) for key in signals]
    return tuple(dict.fromkeys(arm for key, arm in split if key in keys.PER_ARM)) or ("",)


def said_arms(names: Iterable[str]) -> str:
    """Arms as messages call them."""
    return listing([f"arm {name}" if name else "one arm without a name" for name in names])


class Robot(Protocol):
    """A robot on its own clock, which starts at 0 at every reset and moves only in ``advance``."""

    @property
    def contract(self) -> RobotContract: ...

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the reset."""
        ...

    def reset(self, seed: int) -> None:
        """Start an episode; the same seed gives the same episode."""
        ...

    def observe(self) -> dict[str, Any]:
        """Every signal of the contract as last measured; images are uint8 RGB (height, width, 3).

        Measured now, unless the robot is ``Stamped`` and says otherwise.
        """
        ...

    def command(self, command: Command, target_grip: float | None, arm: str = "") -> None:
        """Make ``command`` and ``target_grip`` (0 = open, 1 = closed, None for an arm without a gripper) current from
        now on. A robot with several arms is told arm by arm, at one moment; an only arm has the empty name.

        Raises PositronicError for a command that the contract does not list or that has a wrong size.
        """
        ...

    def advance(self, until_ns: int) -> None:
        """Let time pass up to ``until_ns``. Raises PositronicError when that is in the past."""
        ...

    def metrics(self) -> dict[str, float]:
        """Scores of the present moment, recorded beside the signals; empty when the robot has none."""
        ...

    def statics(self) -> dict[str, Any]:
        """What is true for the whole episode: the task and the scene, ready to be recorded."""
        ...

    def close(self) -> None:
        """Free what the robot holds. It may be closed twice."""
        ...
