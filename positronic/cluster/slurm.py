"""Tasks into SLURM, through submitit: those that need the same others become one array."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from positronic.cluster.config import SlurmConfig
from positronic.cluster.record import Submitted, Sweep, Task
from positronic.cluster.warden import Warden, code_path
from positronic.errors import PositronicError

SUBMITIT = ".submitit"  # submitit's own files and logs, in the sweep's folder
MAX_ARRAY = 1000  # jobs; SLURM's MaxArraySize is 1001 unless a site says otherwise
ANSWER_SEC = 30


def send(sweep: Sweep, tasks: Sequence[Task], config: SlurmConfig) -> Sweep:
    """Submit ``tasks``, and write their ids into ``sweep.json``. All or none.

    Raises PositronicError with what sbatch says when it refuses.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    ids: dict[str, str] = {}
    queued = in_queue(sweep)
    under_way = {job.task.name: job.job_id for job in sweep.jobs if job.job_id and job.task.name in queued}
    try:
        for after, batch in batches(tasks):
            needed = [known[name] for known in (under_way | ids,) for name in after if name in known]
            ids |= zip((task.name for task in batch), _submit(sweep, batch, config, needed), strict=True)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        cancel(list(ids.values()))
        said = " ".join(str(error).split())
        raise PositronicError(f"sbatch refuses the jobs: {said}. Nothing was submitted.") from None
    except BaseException:
        cancel(list(ids.values()))
        raise
    sent = replace(sweep, jobs=[Submitted(job.task, ids.get(job.task.name, job.job_id)) for job in sweep.jobs])
    sent.write()
    return sent


def batches(tasks: Sequence[Task]) -> Iterator[tuple[tuple[str, ...], list[Task]]]:
    """Tasks that need the same others, in an order in which each batch stands behind those that it needs."""
    left = list(tasks)
    while left:
        waiting = {task.name for task in left}
        begin = next(task for task in left if not waiting.intersection(task.after))
        same = [task for task in left if task.after == begin.after][:MAX_ARRAY]
        yield begin.after, same
        left = [task for task in left if task not in same]


def in_queue(sweep: Sweep) -> set[str]:
    """Names of the jobs that SLURM has not ended yet; none where there is no SLURM."""
    jobs = {job.job_id: job.task.name for job in sweep.jobs if job.job_id}
    if not jobs:
        return set()
    arrays = ",".join(dict.fromkeys(number.partition("_")[0] for number in jobs))
    command = ["squeue", "--noheader", "--array", "--format=%i|%F_%K|%A", f"--jobs={arrays}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SEC)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    found = {part for line in done.stdout.splitlines() for part in line.split("|")}
    return {name for number, name in jobs.items() if number in found}


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue."""
    if ids:
        subprocess.run(["scancel", *ids], capture_output=True, timeout=ANSWER_SEC)


def _submit(sweep: Sweep, batch: Sequence[Task], config: SlurmConfig, needed: Sequence[str]) -> list[str]:
    from submitit import SlurmExecutor

    executor = SlurmExecutor(sweep.folder / SUBMITIT, max_num_timeout=config.max_requeues)
    executor.update_parameters(**parameters(sweep, config, needed, len(batch)))
    jobs = executor.submit_array([Warden(str(sweep.folder), task.name) for task in batch])
    return [job.job_id for job in jobs]


def parameters(sweep: Sweep, config: SlurmConfig, needed: Sequence[str], count: int) -> dict[str, Any]:
    """What submitit is told for ``count`` jobs that need the jobs with these ids."""
    # Where sbatch keeps a shell's variables to itself (SBATCH_EXPORT=NONE), srun would keep the job's own as well.
    variables = {"SLURM_EXPORT_ENV": "ALL", **code_path(str(sweep.snapshot))}
    code = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    more = {"requeue": True, **({"kill-on-invalid-dep": "yes"} if needed else {}), **config.sbatch}
    said = {
        "job_name": sweep.name,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "gpus_per_node": config.gpus_per_node or None,
        "cpus_per_task": config.cpus_per_task,
        "mem": None if config.mem_gb is None else f"{config.mem_gb}GB",
        "time": config.timeout_min,
        "constraint": config.constraint,
        "signal_delay_s": config.signal_delay_sec,
        "dependency": f"afterok:{':'.join(needed)}" if needed else None,
        "array_parallelism": config.num_parallel or count,
        "setup": [*config.setup, *code],
        "additional_parameters": more,
    }
    return {name: value for name, value in said.items() if value is not None}
