"""stage=infer: a policy runs a robot; every rollout is recorded and scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from positronic.stages.base import Parts
from positronic.utils.fields import between


@dataclass
class Infer(Parts):
    """``output_dir``: null means ``<paths.root>/rollouts/<experiment>``. ``seed``: of the first episode; episode i has
    seed + i, the same scene for the same seed."""

    uses: ClassVar[tuple[str, ...]] = ("hardware", "policy", "driver")

    output_dir: str | None = None
    seed: int = between(0, default=0)


def run(config: Infer) -> None:
    raise NotImplementedError
