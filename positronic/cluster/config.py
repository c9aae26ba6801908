"""Where the jobs of ``+cluster=<name>`` run, and what they may take there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from positronic.utils.fields import between, name, some

SLURM, LOCAL = "slurm", "local_parallel"
WITH_CLUSTER = f"+cluster={SLURM} or +cluster={LOCAL}"


@dataclass
class ClusterConfig:
    """Where jobs run.

    name: slurm or local_parallel; it follows from the file that +cluster chooses
    """

    name: str = MISSING


@dataclass
class SlurmConfig(ClusterConfig):
    """Jobs of SLURM; each value is the option of sbatch of the same meaning.

    partition: the partition's name; null is the cluster's default
    account: who pays; null is your default account
    qos: the quality of service; null is the default
    gpus_per_node: GPUs for each job; 0 asks for none
    cpus_per_task: cores for each job; null is what the cluster gives, mostly one
    mem_gb: memory for each job in GB; null is the cluster's default
    timeout_min: minutes until a job has to make room; it is saved before, and requeued
    max_requeues: how often a job that ran into its time limit goes on by itself
    constraint: a feature that the node must have, as of sbatch --constraint
    setup: shell lines to run before each job: [module load cuda]
    sbatch: other options of sbatch by their long names: {reservation: mine}
    signal_delay_sec: so long before the time limit a job is told to save
    num_parallel: so many jobs run at a time; null is as many as the cluster lets
    """

    partition: str | None = some(None, "the name of a partition, or null")
    account: str | None = some(None, "the name of an account, or null")
    qos: str | None = some(None, "the name of a quality of service, or null")
    gpus_per_node: int = between(0, default=0)
    cpus_per_task: int | None = between(1, default=None)
    mem_gb: int | None = between(1, default=None)
    timeout_min: int = between(1, default=24 * 60)
    max_requeues: int = between(0, default=10)
    constraint: str | None = some(None, "a constraint, or null")
    setup: list[str] = field(default_factory=list)
    sbatch: dict[str, Any] = field(default_factory=dict)
    signal_delay_sec: int = between(1, default=120)
    num_parallel: int | None = between(1, default=None)


@dataclass
class LocalParallelConfig(ClusterConfig):
    """Jobs side by side on this machine, which share its cores.

    num_parallel: so many at a time
    """

    num_parallel: int = between(1, default=2)


@dataclass
class SweepConfig:
    """The jobs of one command.

    name: of the folder multirun/<date>/<time>_<name>; null is the stage's
    wait: wait until all jobs have ended, then show their table; false returns after the submission
    """

    name: str | None = name(None)
    wait: bool = True
