"""What is written down of a sweep: ``sweep.json`` at submission, ``<job>/job.json`` by each job while it lives.

Plain files instead of a scheduler's database: they can be read from any machine that sees the folder, after the
submitting terminal and the scheduler have forgotten the jobs. Each file has one writer and is replaced in one step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError
from positronic.utils.files import replace_text

SWEEP_FILE, JOB_FILE, LOG_FILE = "sweep.json", "job.json", "log.txt"
FORMAT = 1
ALIVE_EVERY_SEC = 30.0
# States of a job. Only the last four are final.
WAITING, RUNNING, REQUEUED = "waiting", "running", "requeued"
FINISHED, FAILED, KILLED, CANCELLED = "finished", "failed", "killed", "cancelled"
FINAL = (FINISHED, FAILED, KILLED, CANCELLED)


@dataclass(frozen=True)
class Task:
    """One command to run as a job.

    ``name``: unique in its sweep; also the name of its folder. ``arguments``: overrides of ``run.py``, as a person
    would type them, complete: run by hand they do the same. ``varying``: those of them that differ between the tasks of
    a sweep, by key. ``after``: names of the tasks that must have finished before.
    """

    name: str
    arguments: tuple[str, ...]
    varying: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submitted:
    """A task and where it went. ``job_id``: SLURM's, ``<array>_<index>`` in an array; None on this machine."""

    task: Task
    job_id: str | None


@dataclass(frozen=True)
class Sweep:
    """What ``sweep.json`` holds.

    ``folder``: the sweep's. ``name``: of the sweep. ``created``: ISO 8601 with its zone. ``command``: what was typed.
    ``directory``: where it was typed; relative paths begin there. ``cluster``: its settings. ``commit``: hash; None
    outside a git checkout. ``dirty``: whether tracked files were changed: see ``code.diff``.
    ``snapshot``: folder of the code that the jobs run, inside of ``folder``; None for the working tree itself.
    """

    folder: Path
    name: str
    created: str
    command: str
    directory: str
    cluster: Mapping[str, Any]
    commit: str | None
    dirty: bool | None
    snapshot: str | None
    jobs: Sequence[Submitted]

    def folder_of(self, task: Task) -> Path:
        return self.folder / task.name

    def write(self) -> None:
        """Replace ``sweep.json``."""
        content = {"format": FORMAT} | {each.name: getattr(self, each.name) for each in fields(self)}
        content |= {"folder": str(self.folder), "jobs": [asdict(job) for job in self.jobs]}
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_text(self.folder / SWEEP_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Attempt:
    """One start of a job. Times in seconds since 1970. ``ended_sec``: None while it runs, or if nobody could say.
    ``exit_code``: as of ``subprocess``, negative for a signal. ``host``: where. ``job_id``: SLURM's, at that time.
    ``gpus``: so many were given to it."""

    began_sec: float
    host: str
    pid: int
    job_id: str | None = None
    gpus: int = 0
    ended_sec: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class JobState:
    """What ``job.json`` holds. ``state``: as the job itself knew it when it last wrote. ``alive_sec``: when it last
    did, seconds since 1970; it writes every ``ALIVE_EVERY_SEC``. ``last_lines``: of its log, when it failed."""

    state: str
    attempts: Sequence[Attempt] = ()
    alive_sec: float = 0.0
    last_lines: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """Replace ``job.json`` in the job's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / JOB_FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def read_sweep(folder: Path) -> Sweep:
    """The sweep in ``folder``. Raises PositronicError when there is none."""
    path = folder / SWEEP_FILE
    try:
        content = json.loads(path.read_text())
        jobs = [Submitted(_task(job["task"]), job["job_id"]) for job in content["jobs"]]
        kept = {each.name: content[each.name] for each in fields(Sweep) if each.name not in ("folder", "jobs")}
    except FileNotFoundError:
        raise PositronicError(
            f"{folder} holds no sweep: there is no {SWEEP_FILE}. Expected a folder like multirun/<date>/<time>_<name>."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PositronicError(f"{path} cannot be read: {error!r}.") from None
    return Sweep(folder=folder, jobs=jobs, **kept)


def read_job(folder: Path) -> JobState | None:
    """What the job in ``folder`` last wrote; None if it has not begun."""
    try:
        content = json.loads((folder / JOB_FILE).read_text())
        attempts = [Attempt(**attempt) for attempt in content.pop("attempts")]
        return JobState(attempts=attempts, **content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PositronicError(f"{folder / JOB_FILE} cannot be read: {error!r}.") from None


def _task(content: Mapping[str, Any]) -> Task:
    return Task(content["name"], tuple(content["arguments"]), content["varying"], tuple(content["after"]))
