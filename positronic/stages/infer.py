"""stage=infer: a policy runs a robot; every rollout is recorded and scored."""

from __future__ import annotations

from dataclasses import dataclass

from positronic.stages.base import Parts


@dataclass
class Infer(Parts):
    """``output_dir``: null means ``<paths.root>/rollouts/<experiment>``. ``seed``: of the first episode; episode i has
    seed + i, the same scene for the same seed."""

    output_dir: str | None = None
    seed: int = 0


def run(config: Infer) -> None:
    raise NotImplementedError
