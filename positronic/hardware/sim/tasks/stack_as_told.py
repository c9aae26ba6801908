"""Stacking as told: the instruction says which cube is put on which, and each scene is played both ways.

Seeds 2k and 2k + 1 have the same scene and opposite instructions, and only the first stack that lasts counts. So a
policy that does not heed the instruction does the same in both, and succeeds in one of them at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from positronic.errors import PositronicError
from positronic.hardware.sim.state import SceneState
from positronic.hardware.sim.task import Scorer
from positronic.hardware.sim.tasks.stack import BLUE, RED, SCORES, Stack

UPPER, LOWER = "{upper}", "{lower}"


@dataclass(frozen=True)
class StackAsTold(Stack):
    """The seed says which cube is the upper one. ``config.task``: an instruction with ``{upper}`` and ``{lower}``."""

    scores = replace(SCORES, done="stacked as told")

    def __post_init__(self) -> None:
        if UPPER not in self.config.task or LOWER not in self.config.task:
            raise PositronicError(
                f"hardware.task={self.config.task}: expected an instruction with {UPPER} and {LOWER}, where the colours"
                f" go, e.g. 'Put the {UPPER} cube on the {LOWER} cube.'"
            )

    @property
    def upper(self) -> str:
        return BLUE if self.seed % 2 else RED

    @property
    def scene_seed(self) -> int:
        return self.seed // 2

    @property
    def instruction(self) -> str:
        return self.config.task.replace(UPPER, self.upper).replace(LOWER, self.lower)

    @property
    def names(self) -> Mapping[str, str]:
        return {self.upper: "upper", self.lower: "lower"}

    @property
    def other_way(self) -> StackAsTold:
        """The task of the same scene's other episode."""
        return replace(self, seed=self.seed ^ 1)

    def scorer(self) -> FirstStack:
        return FirstStack(self)


class FirstStack(Scorer):
    """Once the cubes have stood the other way round for as long as a success lasts, the score is 0 for good."""

    def __init__(self, task: StackAsTold) -> None:
        super().__init__(task)
        self._other_way, self._reversed = task.other_way, task.other_way.judge()

    def metrics(self, time_ns: int, state: SceneState) -> dict[str, float]:
        """The task's metrics at ``time_ns``, in order of time."""
        failed = self._reversed.update(time_ns, self._other_way.metrics(state))
        return self._task.named(self._task.parts(state) | {"never_reversed": float(not failed)}, state)


TASK = StackAsTold
