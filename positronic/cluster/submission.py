"""From tasks to jobs: the sweep's folder, the code, and who runs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from positronic.cluster import local, slurm
from positronic.cluster.checks import check_slurm
from positronic.cluster.config import SLURM, ClusterConfig, SlurmConfig
from positronic.cluster.record import (
    ALIVE_EVERY_SEC,
    FINISHED,
    RUNNING,
    SWEEP_FILE,
    WAITING,
    JobState,
    Submitted,
    Sweep,
    Task,
    read_job,
)
from positronic.cluster.snapshot import take_snapshot
from positronic.cluster.warden import code_path
from positronic.errors import PositronicError, listing
from positronic.utils.files import numbered

ROOT = Path(__file__).resolve().parents[2]
MULTIRUN = "multirun"
FAILED_ONES = "failed"  # names every job that has not finished


def new_sweep_folder(name: str, root: str | Path = MULTIRUN) -> Path:
    """A new folder ``<root>/<date>/<time>_<name>``, made now; with a number behind it if another sweep has it."""
    now = datetime.now()
    place = Path(root).absolute() / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}_{name}"
    for candidate in numbered(str(place)):
        with contextlib.suppress(FileExistsError):
            Path(candidate).mkdir(parents=True)
            return Path(candidate)
    raise AssertionError("unreachable")


def check(tasks: Sequence[Task], cluster: ClusterConfig) -> None:
    """Raise PositronicError if these tasks cannot be submitted. To be called before the sweep's folder is made."""
    names = [task.name for task in tasks]
    twice = {name for name in names if names.count(name) > 1}
    unknown = {name for task in tasks for name in task.after} - set(names)
    if twice or unknown:
        raise ValueError(f"names of tasks: twice {twice}, unknown {unknown}")
    if isinstance(cluster, SlurmConfig):
        check_slurm(cluster)


def submit(tasks: Sequence[Task], cluster: ClusterConfig, folder: Path, name: str, command: str) -> Sweep:
    """Submit ``tasks`` to ``cluster``, or prepare them for ``run_here``.

    ``folder``: the sweep's, new or empty. ``command``: what was typed. Tasks stand behind those that they need. Raises
    PositronicError when they cannot be submitted; nothing is left behind then.
    """
    check(tasks, cluster)
    if (folder / SWEEP_FILE).exists():
        raise PositronicError(
            f"{folder} holds a sweep already. To see it, type: python run.py stage=sweep sweep={folder}"
        )
    was_there = folder.exists() and any(folder.iterdir())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        snapshot = take_snapshot(ROOT, folder)
        sweep = Sweep(
            folder=folder.absolute(),
            name=name,
            created=datetime.now().astimezone().isoformat(timespec="seconds"),
            command=command,
            directory=str(Path.cwd()),
            cluster=asdict(cluster),
            commit=snapshot.commit,
            dirty=snapshot.dirty,
            snapshot=str(snapshot.folder.absolute()),
            jobs=[Submitted(task, None) for task in tasks],
        )
        sweep.write()  # before: a job reads it as soon as it begins
        return slurm.send(sweep, tasks, cluster) if isinstance(cluster, SlurmConfig) else sweep
    except BaseException:
        if not was_there:
            shutil.rmtree(folder, ignore_errors=True)
            remove_empty(folder.parent)
        raise


def resubmit(sweep: Sweep, names: Sequence[str] | str) -> Sweep:
    """Submit jobs of a sweep again, with the code and the commands that it holds: a job that had begun goes on from
    its last checkpoint. ``names``: of the jobs, or "failed" for every one that has not finished.

    Jobs of this machine are only made ready: ``run_here`` runs them. Raises PositronicError for names that the sweep
    does not have, and for jobs that have finished or still run.
    """
    tasks = _to_repeat(sweep, names)
    if not is_here(sweep):  # before anything is written
        check_slurm(SlurmConfig(**sweep.cluster))
    for task in tasks:
        before = read_job(sweep.folder_of(task))
        JobState(WAITING, before.attempts if before else (), time.time()).write(sweep.folder_of(task))
    if is_here(sweep):
        return sweep
    return slurm.send(sweep, tasks, SlurmConfig(**sweep.cluster))


def _to_repeat(sweep: Sweep, names: Sequence[str] | str) -> list[Task]:
    known = {job.task.name: job for job in sweep.jobs}
    states = {name: read_job(sweep.folder / name) for name in known}
    finished = {name for name, state in states.items() if state is not None and state.state == FINISHED}
    alive = slurm.in_queue(sweep) | {name for name, state in states.items() if _is_alive(state)}
    if names == FAILED_ONES:
        names = [name for name in known if name not in finished | alive]
        if not names:
            raise PositronicError(f"{sweep.folder}: no job has failed; {listing(sorted(alive)) or 'none'} still run.")
    for name in names:
        if name not in known:
            raise PositronicError(f"resubmit={name}: {sweep.folder} has no such job. It has {listing(list(known))}.")
        if name in finished | alive:
            what = "has finished" if name in finished else "still waits or runs"
            raise PositronicError(f"resubmit={name}: this job {what}. Leave it out.")
    tasks = [job.task for job in sweep.jobs if job.task.name in names]
    for task in tasks:
        lacking = [other for other in task.after if other not in finished | alive | set(names)]
        if lacking:
            both = ",".join([*lacking, task.name])
            raise PositronicError(f"resubmit={task.name}: it needs {lacking[0]}, which failed. Type resubmit=[{both}].")
    return tasks


def _is_alive(state: JobState | None) -> bool:
    return state is not None and state.state == RUNNING and time.time() - state.alive_sec < 3 * ALIVE_EVERY_SEC


def run_here(sweep: Sweep, names: Collection[str] | None = None, wait: bool = True, show: bool = False) -> None:
    """Run jobs of a sweep of this machine; None runs all. Without ``wait`` they go on when this process has ended."""
    names = [job.task.name for job in sweep.jobs] if names is None else list(names)
    num_parallel = int(sweep.cluster.get("num_parallel", 1))
    if wait:
        return local.run(sweep, names, num_parallel, show)
    subprocess.Popen(
        [sys.executable, "-m", "positronic.cluster.local", str(sweep.folder), str(num_parallel), *names],
        env=os.environ | code_path(sweep.snapshot or str(ROOT)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return None


def is_here(sweep: Sweep) -> bool:
    """Whether the jobs of ``sweep`` run on the machine where they were begun."""
    return sweep.cluster.get("name") != SLURM


def remove_empty(folder: Path) -> None:
    """Remove ``folder`` if it is empty, and then the one around it: the date's and ``multirun``."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def how_to_cancel(sweep: Sweep) -> str | None:
    """The command that ends all jobs of SLURM; None for those of this machine."""
    ids = dict.fromkeys(job.job_id.partition("_")[0] for job in sweep.jobs if job.job_id)
    return f"scancel {' '.join(ids)}" if ids else None
