"""The process that guards one job: it runs the job's command, says every half minute that it lives, and passes on what
the scheduler wants.

A job is a plain command in a process of its own, so that what is recorded can be typed by hand, and so that a crash of
it is noticed by somebody. Signals of the scheduler reach this process; the command alone is told to save and end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from positronic.cluster.record import (
    ALIVE_EVERY_SEC,
    CANCELLED,
    FAILED,
    FINISHED,
    KILLED,
    LOG_FILE,
    REQUEUED,
    RUNNING,
    Attempt,
    JobState,
    Sweep,
    Task,
    read_job,
    read_sweep,
)
from positronic.utils.command_line import RESUME, SCRIPT
from positronic.utils.processes import die_with_parent

RESUMABLE = ("train", "collect", "infer", "pipeline")  # stages that have resume=true
LAST_LINES = 20
TOLD = (signal.SIGTERM, signal.SIGINT)
NOT_FOR_THE_COMMAND = signal.SIGUSR2  # SLURM sends it to every process of a job
INTERRUPTED = 130


class JobFailedError(RuntimeError):
    """The job's command failed: it makes the scheduler's job fail too."""


@dataclass
class Warden:
    """Guards the job ``name`` of the sweep in ``sweep``. Called by submitit on a node, or by ``main`` here."""

    sweep: str
    name: str
    _guarded: _Guarded | None = field(default=None, repr=False)

    def __call__(self) -> int:
        """Run the command to its end; its exit code, which is 0. Raises JobFailedError for another one."""
        sweep = read_sweep(Path(self.sweep))
        task = next(job.task for job in sweep.jobs if job.task.name == self.name)
        self._guarded = _Guarded(sweep, task)
        handlers = {number: signal.signal(number, self._stop) for number in TOLD}
        try:
            return self._guarded.run()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def checkpoint(self) -> Any:
        """Of submitit, when the job has to make room: the command saves and ends. What to run after the requeue; None
        if there is nothing left to do."""
        import submitit

        if self._guarded is not None and self._guarded.make_room() == 0:
            return None
        return submitit.helpers.DelayedSubmission(Warden(self.sweep, self.name))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._guarded is not None:
            self._guarded.cancel()


class _Guarded:
    """One attempt: the process of the command, and what is written of it."""

    def __init__(self, sweep: Sweep, task: Task) -> None:
        self.sweep, self.task, self.folder = sweep, task, sweep.folder_of(task)
        self.process: subprocess.Popen[bytes] | None = None
        self.told: str | None = None  # the state that follows if the command ends because it was told to
        before = read_job(self.folder)
        self.attempts = list(before.attempts) if before else []

    def run(self) -> int:
        now = time.time()
        self.attempts.append(Attempt(now, socket.gethostname(), os.getpid(), job_id(), gpus()))
        self._write(RUNNING)
        try:
            code = self._run()
        except Exception as error:  # of submitit, when it does not requeue the job; SystemExit when it has
            code = None if self.process is None else self.process.poll()
            if code != 0:
                self._end(FAILED, [f"{'Not requeued: ' if self.told == REQUEUED else ''}{error}"])
                raise
        state = state_after(code, self.told)
        self._end(state, last_lines(self.folder / LOG_FILE) if state in (FAILED, KILLED) else ())
        if state != FINISHED:
            raise JobFailedError(f"{self.task.name} {state}, exit code {code}: see {self.folder / LOG_FILE}")
        return code

    def make_room(self) -> int | None:
        """Tell the command to save, and wait until it has ended. Its exit code; None if it had not begun."""
        self.told = REQUEUED
        code = self._told_to_end()
        if code != 0:
            self._end(REQUEUED)
        return code

    def cancel(self) -> None:
        """Tell the command to save and end; ``run`` notices when it has."""
        self.told = self.told or CANCELLED
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def _told_to_end(self) -> int | None:
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        return self._wait(self.process)

    def _run(self) -> int:
        if self.told is not None:
            return INTERRUPTED
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOG_FILE).open("ab") as log:
            self.process = subprocess.Popen(
                command(self.sweep, self.task, again=len(self.attempts) > 1),
                cwd=self.sweep.directory,
                env=environment(self.sweep),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_begin_child(os.getpid()),
            )
        return self._wait(self.process)

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        descriptor = os.pidfd_open(process.pid) if process.poll() is None else None
        if descriptor is None:
            return process.wait()
        try:
            while not select.select([descriptor], [], [], ALIVE_EVERY_SEC)[0]:
                self._write(RUNNING)
        finally:
            os.close(descriptor)
        return process.wait()

    def _write(self, state: str, lines: Sequence[str] = ()) -> None:
        JobState(state, self.attempts, time.time(), lines).write(self.folder)

    def _end(self, state: str, lines: Sequence[str] = ()) -> None:
        code = None if self.process is None else self.process.poll()
        self.attempts[-1] = replace(self.attempts[-1], ended_sec=time.time(), exit_code=code)
        self._write(state, lines)


def command(sweep: Sweep, task: Task, again: bool) -> list[str]:
    """The command of a job. ``again``: it was begun before, and goes on where it was."""
    root = sweep.snapshot or str(Path(__file__).resolve().parents[2])
    resumed = [RESUME] if again and may_resume(task) else []
    kept = [each for each in task.arguments if not (resumed and each.startswith("resume="))]
    return [sys.executable, f"{root}/{SCRIPT}", *kept, *resumed, f"hydra.run.dir={sweep.folder_of(task)}"]


def may_resume(task: Task) -> bool:
    """Whether the stage of ``task`` can go on, and has left something to go on with."""
    values = dict(each.partition("=")[::2] for each in task.arguments)
    if values.get("stage") not in RESUMABLE:
        return False
    place = values.get("output_dir", "")
    return values["stage"] == "train" or "://" in place or (bool(place) and any(Path(place).glob("*")))


def environment(sweep: Sweep) -> dict[str, str]:
    """Of a job's command: the code of the sweep alone is imported, not the working tree."""
    root = sweep.snapshot or str(Path(__file__).resolve().parents[2])
    threads = os.environ.get("SLURM_CPUS_PER_TASK")
    limit = {"OMP_NUM_THREADS": threads} if threads and "OMP_NUM_THREADS" not in os.environ else {}
    return {**os.environ, **limit, **code_path(root), "PYTHONUNBUFFERED": "1"}


def code_path(root: str) -> dict[str, str]:
    """Variables with which Python imports Positronic from ``root``, before an installed one and the working folder."""
    behind = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}{os.pathsep}{behind}" if behind else root, "PYTHONSAFEPATH": "1"}


def state_after(code: int, told: str | None) -> str:
    """What became of a job whose command ended with ``code``, after it was ``told`` something, or not."""
    if code == 0:
        return FINISHED
    if code == -signal.SIGKILL:
        return KILLED
    return told or FAILED


def last_lines(log: Path) -> list[str]:
    """The end of a log, progress displays as they were last."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return list(deque((line.rpartition("\r")[2] for line in lines if line.strip()), LAST_LINES))


def job_id(environ: Mapping[str, str] = os.environ) -> str | None:
    """SLURM's id of this job, ``<array>_<index>`` in an array; None outside of SLURM."""
    array, index = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else environ.get("SLURM_JOB_ID")


def gpus(environ: Mapping[str, str] = os.environ) -> int:
    """How many GPUs SLURM gave to this job."""
    given = environ.get("SLURM_GPUS_ON_NODE") or ""
    return int(given) if given.isdecimal() else 0


def _begin_child(parent: int) -> Any:
    def begin() -> None:
        signal.signal(NOT_FOR_THE_COMMAND, signal.SIG_IGN)
        die_with_parent(parent)

    return begin


def main() -> int:
    """``python -m positronic.cluster.warden <sweep> <job>``: for a job of this machine. Exit code 1 if it failed."""
    try:
        return Warden(*sys.argv[1:3])()
    except JobFailedError:  # job.json says so
        return 1


if __name__ == "__main__":
    sys.exit(main())
