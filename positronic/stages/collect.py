"""stage=collect: scripted demonstrations in simulation, recorded as a raw dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from positronic.stages.base import Parts
from positronic.utils.fields import between


@dataclass
class Collect(Parts):
    """``output_dir``: the raw dataset to write, by default ``dataset.path``. ``num_episodes`` successful demonstrations
    from seeds ``seed``, ``seed + 1``, ...; ``noise``: 1 disturbs the executed command as in DART, 0 not at all;
    ``recovery``: share of episodes that start after a failed grasp; ``num_workers``: processes, 0 means one per core.
    """

    uses: ClassVar[tuple[str, ...]] = ("hardware",)

    output_dir: str = "${dataset.path}"
    num_episodes: int = between(1, default=50)
    seed: int = between(0, default=100000)
    noise: float = between(0, default=1.0)
    recovery: float = between(0, 1, default=0.2)
    num_workers: int = between(0, default=0)


def run(config: Collect) -> None:
    raise NotImplementedError
