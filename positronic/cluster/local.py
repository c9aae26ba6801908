"""Jobs as processes of this machine: so many at a time, in the order of what they need, the cores shared out."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from positronic.cluster.record import (
    CANCELLED,
    FINAL,
    FINISHED,
    KILLED,
    LOG_FILE,
    JobState,
    Sweep,
    Task,
    read_job,
    read_sweep,
)
from positronic.cluster.warden import code_path
from positronic.utils.processes import interruptible
from positronic.utils.threads import available_cores

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LOOK_EVERY_SEC = 0.2  # at the log of a job that is shown


def run(sweep: Sweep, names: Collection[str], num_parallel: int, show: bool = False) -> None:
    """Run these jobs of ``sweep``, and return when all have ended; ``job.json`` says how.

    A job that fails stops only those that come after it. ``show``: print what each job prints. Raises
    KeyboardInterrupt, after all jobs have saved and ended.
    """
    waiting = [job.task for job in sweep.jobs if job.task.name in names]
    running: dict[int, tuple[Task, subprocess.Popen[bytes]]] = {}
    shown: dict[str, int] = {}
    with _ended_together(sweep, waiting, running):
        while waiting or running:
            waiting[:] = _begin(sweep, waiting, running, num_parallel)
            ended = select.select(list(running), [], [], LOOK_EVERY_SEC if show else None)[0] if running else []
            if show:
                _show(sweep, shown)
            for descriptor in ended:
                task, process = running.pop(descriptor)
                os.close(descriptor)
                _note_lost(sweep.folder_of(task), process.wait())
                print(f"  {task.name}: {_state(sweep, task.name)}", flush=True)


def _begin(
    sweep: Sweep, waiting: Sequence[Task], running: dict[int, tuple[Task, subprocess.Popen[bytes]]], num_parallel: int
) -> list[Task]:
    """Start what may start, cancel what cannot start any more. Those that still wait."""
    left, under_way = [], {task.name for task, _ in running.values()} | {task.name for task in waiting}
    for task in waiting:
        wrong = [name for name in task.after if name not in under_way and _state(sweep, name) != FINISHED]
        if wrong:
            _cancel(sweep, task, f"Not started: {wrong[0]} did not finish.")
            under_way.discard(task.name)
        elif len(running) < num_parallel and not under_way.intersection(task.after):
            process = _start(sweep, task, num_parallel)
            running[os.pidfd_open(process.pid)] = task, process
        else:
            left.append(task)
    return left


def _state(sweep: Sweep, name: str) -> str | None:
    state = read_job(sweep.folder / name)
    return state.state if state else None


def _start(sweep: Sweep, task: Task, num_parallel: int) -> subprocess.Popen[bytes]:
    root = sweep.snapshot or str(Path(__file__).resolve().parents[2])
    folder = sweep.folder_of(task)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "positronic.cluster.warden", str(sweep.folder), task.name],
            env={**os.environ, **code_path(root), **shared_out(num_parallel)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def shared_out(num_parallel: int, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables with which each of ``num_parallel`` jobs takes its share of the cores, unless they are set already."""
    threads = str(max(1, available_cores() // num_parallel))
    return {name: environ.get(name, threads) for name in THREADS}


@contextmanager
def _ended_together(
    sweep: Sweep, waiting: Sequence[Task], running: Mapping[int, tuple[Task, subprocess.Popen[bytes]]]
) -> Iterator[None]:
    """When the block is left early, each job is told to save, and is waited for."""
    try:
        with interruptible():
            yield
    finally:
        for _, process in running.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for descriptor, (_, process) in running.items():
            process.wait()
            os.close(descriptor)
        for task in waiting:
            _cancel(sweep, task, "Not started: interrupted.")


def _cancel(sweep: Sweep, task: Task, reason: str) -> None:
    JobState(CANCELLED, (), time.time(), [reason]).write(sweep.folder_of(task))
    print(f"  {task.name}: {CANCELLED}. {reason}", flush=True)


def _note_lost(folder: Path, code: int) -> None:
    """A warden that was killed could not write how its job ended."""
    state = read_job(folder)
    if state is None or state.state not in FINAL:
        attempts = state.attempts if state else ()
        now = time.time()
        ended = [*attempts[:-1], *(replace(each, ended_sec=now, exit_code=code) for each in attempts[-1:])]
        lines = [f"Its process ended with exit code {code}: see {LOG_FILE}."]
        JobState(KILLED, ended, now, lines).write(folder)


def _show(sweep: Sweep, shown: dict[str, int]) -> None:
    """Print what the jobs have printed since the last time."""
    for job in sweep.jobs:
        path = sweep.folder_of(job.task) / LOG_FILE
        if path.exists():
            with path.open("rb") as log:
                log.seek(shown.get(job.task.name, 0))
                text = log.read()
            shown[job.task.name] = shown.get(job.task.name, 0) + len(text)
            sys.stdout.write(text.decode(errors="replace"))
            sys.stdout.flush()


def main() -> int:
    """``python -m positronic.cluster.local <sweep> <num_parallel> <job>...``: for a sweep that is not waited for."""
    folder, num_parallel, *names = sys.argv[1:]
    try:
        run(read_sweep(Path(folder)), names, int(num_parallel))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
