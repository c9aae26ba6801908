"""What is asked of SLURM before anything is submitted: whether it is there, and has what each job needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from positronic.cluster.config import SlurmConfig
from positronic.errors import PositronicError, did_you_mean, listing

SINFO = ("sinfo", "--noheader", "--exact", "--format=%P|%l|%c|%m|%G|%a")
ANSWER_SEC = 30
UNLIMITED = ("infinite", "n/a", "unlimited")


class Nodes(NamedTuple):
    """Nodes of one kind in a partition. ``limit_min``: longest job; None without a limit. ``gpus``: of each node."""

    partition: str
    is_default: bool
    limit_min: int | None
    cores: int
    memory_mb: int
    gpus: int
    is_up: bool


def check_slurm(config: SlurmConfig) -> None:
    """Raise PositronicError when SLURM is not there, or cannot give what each job asks for."""
    _require_submitit()
    if shutil.which("sbatch") is None:
        raise PositronicError(
            "+cluster=slurm: there is no sbatch on this machine. Type the command on a login node of the cluster, or"
            " +cluster=local_parallel to run the jobs here."
        )
    nodes = partition_nodes()
    names = list(dict.fromkeys(each.partition for each in nodes))
    chosen = [
        each for each in nodes if each.partition == config.partition or (config.partition is None and each.is_default)
    ]
    if not chosen:
        found = "this cluster has no default partition" if config.partition is None else "there is no such partition"
        hint = "" if config.partition is None else did_you_mean(config.partition, names)
        raise PositronicError(
            f"cluster.partition={config.partition or 'null'}: {found}. sinfo names {listing(names)}.{hint}"
        )
    _check_resources(config, chosen)


def _check_resources(config: SlurmConfig, nodes: Sequence[Nodes]) -> None:
    name = nodes[0].partition
    if not any(each.is_up for each in nodes):
        raise PositronicError(
            f"Partition {name} is down: no job would begin. Choose another one by cluster.partition=."
        )
    limits = [each.limit_min for each in nodes if each.limit_min is not None]
    if limits and config.timeout_min > max(limits):
        raise PositronicError(
            f"cluster.timeout_min={config.timeout_min} is more than partition {name} allows. Type "
            f"cluster.timeout_min={max(limits)} or less: a job that needs longer is requeued and goes on from its last"
            " checkpoint."
        )
    for key, wanted, has, unit in (
        ("gpus_per_node", config.gpus_per_node, max(each.gpus for each in nodes), "GPUs"),
        ("cpus_per_task", config.cpus_per_task, max(each.cores for each in nodes), "cores"),
        ("mem_gb", config.mem_gb, max(each.memory_mb for each in nodes) // 1024, "GB of memory"),
    ):
        if wanted is not None and wanted > has:
            raise PositronicError(
                f"cluster.{key}={wanted}: no node of partition {name} has more than {has} {unit}. Type "
                f"cluster.{key}={has} or less, or another cluster.partition=."
            )


def partition_nodes() -> list[Nodes]:
    """What ``sinfo`` says of the partitions. Raises PositronicError when SLURM does not answer."""
    try:
        done = subprocess.run(SINFO, capture_output=True, text=True, timeout=ANSWER_SEC)
    except FileNotFoundError:
        raise PositronicError("+cluster=slurm: there is sbatch, but no sinfo. Ask who runs the cluster.") from None
    except subprocess.TimeoutExpired:
        raise PositronicError(f"SLURM has not answered sinfo within {ANSWER_SEC} s. Try again later.") from None
    if done.returncode or not done.stdout.strip():
        said = " ".join(done.stderr.split()) or "nothing"
        raise PositronicError(f"SLURM does not answer: sinfo says '{said}'. Try again later.")
    return [_nodes(line) for line in done.stdout.splitlines() if line.count("|") == 5]


def _nodes(line: str) -> Nodes:
    name, limit, cores, memory, gres, available = line.split("|")
    gpus = re.findall(r"gpu(?::[^:,()]+)?:(\d+)", gres)
    return Nodes(
        name.removesuffix("*"),
        name.endswith("*"),
        minutes(limit),
        _number(cores),
        _number(memory),
        sum(map(int, gpus)),
        available == "up",
    )


def minutes(limit: str) -> int | None:
    """A time limit of SLURM, ``days-hours:minutes:seconds``, in minutes; None without one."""
    if limit in UNLIMITED:
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        parts = [*parts, 0, 0][:3]
    hours, mins, _ = ([0] * 3 + parts)[-3:]
    return int(days or 0) * 24 * 60 + hours * 60 + mins


def _number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def _require_submitit() -> None:
    from importlib.util import find_spec

    if find_spec("submitit") is None:
        raise PositronicError(
            "+cluster=slurm needs submitit, which is not installed. Type: pip install 'positronic-hydra[slurm]'."
        )
