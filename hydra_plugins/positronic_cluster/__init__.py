"""Hydra finds its plugins in this package alone: the sweeper that the files in conf/cluster choose."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ClusterSweeper(Sweeper):
    """Submits each run of a grid as a job, or refuses the grid and leaves nothing behind."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        from positronic.sweeps import run_sweep  # late: Hydra imports its plugins at every start

        return run_sweep(self.config, arguments)
