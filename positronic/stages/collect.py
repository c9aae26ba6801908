"""stage=collect: scripted demonstrations in simulation, recorded as a raw dataset."""

from __future__ import annotations

from dataclasses import dataclass

from positronic.stages.base import Parts


@dataclass
class Collect(Parts):
    """``output_dir``: the raw dataset to write, by default ``dataset.path``. ``num_episodes`` successful demonstrations
    from seeds ``seed``, ``seed + 1``, ...; ``noise``: 1 disturbs the executed command as in DART, 0 not at all;
    ``recovery``: share of episodes that start after a failed grasp; ``num_workers``: processes, 0 means one per core.
    """

    output_dir: str = "${dataset.path}"
    num_episodes: int = 50
    seed: int = 100000
    noise: float = 1.0
    recovery: float = 0.2
    num_workers: int = 0


def run(config: Collect) -> None:
    raise NotImplementedError
