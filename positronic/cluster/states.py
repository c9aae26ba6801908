"""The state of each job of a sweep, from what the jobs write, from SLURM, and from this machine's processes.

No single source is enough. A job that is killed cannot write so; SLURM forgets jobs, and may not answer or not be
there; a sign of life only says that the job lived a moment ago. What the job wrote last counts, unless SLURM knows that
it has ended or waits again, or it has been silent for ``SILENT_SEC``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from positronic.cluster import scheduler
from positronic.cluster.record import (
    ALIVE_EVERY_SEC,
    CANCELLED,
    FAILED,
    FINAL,
    FINISHED,
    KILLED,
    REQUEUED,
    RUNNING,
    WAITING,
    Attempt,
    JobState,
    Submitted,
    Sweep,
    Task,
    read_job,
)
from positronic.cluster.scheduler import Known
from positronic.errors import PositronicError

SILENT_SEC = 5 * ALIVE_EVERY_SEC  # network file systems may show a file a minute late
SETTLING_SEC = 2 * ALIVE_EVERY_SEC  # so long a job's own word counts although SLURM does not know it

AskSlurm = Callable[[Sequence[str]], Mapping[str, Known] | None]


@dataclass(frozen=True)
class JobReport:
    """What is known of a job. ``state``: of record.py. ``reason``: for people; empty if there is nothing to say.

    ``alive_sec``: when it last wrote, seconds since 1970; 0 before it has begun. ``now_sec``: when this was found out.
    ``seen``: whether somebody (SLURM, its process, a fresh sign of life) says that it is there or has ended; otherwise
    it is only not known to have ended. ``stuck``: only a person can make it begin.
    """

    task: Task
    folder: Path
    job_id: str | None
    state: str
    reason: str = ""
    attempts: Sequence[Attempt] = ()
    alive_sec: float = 0.0
    last_lines: Sequence[str] = ()
    now_sec: float = 0.0
    seen: bool = True
    stuck: bool = False

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def silent_sec(self) -> float:
        """Since its last sign of life."""
        return max(0.0, self.now_sec - self.alive_sec)

    @property
    def wall_sec(self) -> float:
        """Of all its attempts together, without the time between them."""
        return sum(self._lasted_sec(attempt) for attempt in self.attempts)

    @property
    def gpu_hours(self) -> float:
        """GPUs that it was given times the hours that it had them."""
        return sum(attempt.gpus * self._lasted_sec(attempt) for attempt in self.attempts) / 3600

    @property
    def exit_code(self) -> int | None:
        """Of the last attempt, as of ``subprocess``; None while it runs or if nobody could say."""
        return self.attempts[-1].exit_code if self.attempts else None

    def _lasted_sec(self, attempt: Attempt) -> float:
        """Of an attempt that nobody saw end, until the next sign that anybody gave."""
        later = [each.began_sec for each in self.attempts if each.began_sec > attempt.began_sec]
        last_seen = min(later) if later else self.now_sec if self.state == RUNNING else self.alive_sec
        return max(0.0, (last_seen if attempt.ended_sec is None else attempt.ended_sec) - attempt.began_sec)


def states_of(
    sweep: Sweep, ask: AskSlurm = scheduler.ask_slurm, now_sec: Callable[[], float] = time.time
) -> list[JobReport]:
    """The state of each job, in the order of the sweep. SLURM is asked once, and not for jobs that say themselves that
    they have finished.

    ``ask``: what SLURM knows of job ids; None if it cannot be asked. ``now_sec``: seconds since 1970.
    """
    first = [_read(sweep, job, 0.0) for job in sweep.jobs]
    open_ids = [report.job_id for report in first if report.job_id and report.state != FINISHED]
    known = ask(open_ids) if open_ids else {}
    reports = list[JobReport]()
    for job in sweep.jobs:  # read after SLURM has answered: what ended has written so
        report = _judged(_read(sweep, job, now_sec()), known)
        if report.state == KILLED:  # or it has written its last word in this moment
            report = _judged(_read(sweep, job, now_sec()), known)
        reports.append(report)
    return _without_the_impossible(reports)


def _read(sweep: Sweep, job: Submitted, now_sec: float) -> JobReport:
    """What the job itself says; of a file that cannot be read, why."""
    folder, reason = sweep.folder_of(job.task), ""
    try:
        wrote = read_job(folder) or JobState(WAITING)
    except PositronicError as error:
        wrote, reason = JobState(WAITING), str(error)
    state = WAITING if wrote.state in FINAL and _is_of_another_id(job, wrote) else wrote.state
    report = JobReport(job.task, folder, job.job_id, state, reason, wrote.attempts, wrote.alive_sec, now_sec=now_sec)
    return replace(report, last_lines=wrote.last_lines if state == wrote.state else ())


def _is_of_another_id(job: Submitted, wrote: JobState) -> bool:
    """Whether the job was submitted again since it wrote."""
    last = wrote.attempts[-1].job_id if wrote.attempts else None
    return last is not None and job.job_id is not None and last != job.job_id


def _judged(own: JobReport, known: Mapping[str, Known] | None) -> JobReport:
    """What the job says of itself, held against what else is known."""
    if own.state == FINISHED:
        return own
    if own.job_id is None:
        return _local(own)
    if known is None:
        return _from_files(own)
    said = known.get(own.job_id)
    return _unknown_to_slurm(own) if said is None else _with_slurm(own, said)


def _with_slurm(own: JobReport, said: Known) -> JobReport:
    """SLURM knows the job."""
    if said.waits:
        return _waiting(own, said)
    if said.active and said.start_sec > own.alive_sec:  # what it wrote is of an earlier run
        own = replace(own, state=RUNNING, alive_sec=said.start_sec, reason="", last_lines=())
    if own.state in (FAILED, KILLED, CANCELLED):
        ended = said.why_ended() if said.state in scheduler.ENDS else ""
        return replace(own, reason=ended or own.reason or _own_reason(own))
    if said.active:
        return _active(own, said)
    if said.state == scheduler.CANCELLED:
        never = said.reason == scheduler.NEVER
        return replace(own, state=CANCELLED, reason="what it needs did not finish" if never else "it was cancelled")
    if said.state == scheduler.COMPLETED:
        return _completed(own)
    if said.exit_code is not None and said.exit_code > 0 and said.state == "FAILED":
        return replace(own, state=FAILED, reason=f"ended with exit code {said.exit_code}")
    return replace(own, state=KILLED, reason=said.why_ended())


def _waiting(own: JobReport, said: Known) -> JobReport:
    """It waits, for the first time or again."""
    if said.reason == scheduler.NEVER:
        return replace(own, state=CANCELLED, reason="what it needs did not finish")
    again = own.state == REQUEUED or (said.restarts > 0 and bool(own.attempts))
    stuck = any(said.reason.startswith(word) for word in scheduler.STUCK)
    return replace(own, state=REQUEUED if again else WAITING, reason=said.why_waiting(), stuck=stuck)


def _active(own: JobReport, said: Known) -> JobReport:
    """It has its node."""
    if said.state in scheduler.SUSPENDED:
        return replace(own, state=RUNNING, reason="SLURM has suspended it")
    if own.state == REQUEUED and said.state == scheduler.ENDING:
        return own
    if own.silent_sec > SILENT_SEC:
        return replace(own, state=KILLED, reason=f"{_silence(own)}, although SLURM says {said.state}")
    return replace(own, state=RUNNING)


def _completed(own: JobReport) -> JobReport:
    """SLURM says that it ended well; what it wrote may come a moment later."""
    if own.state == RUNNING and own.silent_sec <= SETTLING_SEC:
        return own
    return replace(own, state=KILLED, reason="it ended without having written how")


def _unknown_to_slurm(own: JobReport) -> JobReport:
    """SLURM answered, and does not know it: it ended a while ago, or this is another cluster."""
    if own.final:
        return replace(own, reason=own.reason or _own_reason(own))
    if own.state == RUNNING and own.silent_sec <= SETTLING_SEC:
        return own
    gone = "SLURM does not know it any more"
    if own.state == RUNNING:
        return replace(own, state=KILLED, reason=f"{_silence(own)}, and {gone}")
    if own.state == REQUEUED:
        return replace(own, state=KILLED, reason=f"it was requeued, and {gone}")
    return replace(own, state=CANCELLED, reason=own.reason or f"it did not begin, and {gone}")


def _from_files(own: JobReport) -> JobReport:
    """SLURM cannot be asked."""
    if own.final:
        return replace(own, reason=own.reason or _own_reason(own))
    if own.state == RUNNING and own.silent_sec > SILENT_SEC:
        return replace(own, state=KILLED, reason=_silence(own))
    if own.state == RUNNING:
        return own
    where = "does not answer" if scheduler.has_slurm() else "cannot be asked from this machine"
    return replace(own, reason=own.reason or f"SLURM {where}", seen=False)


def _local(own: JobReport) -> JobReport:
    """A job of this machine, or of another one that sees the folder."""
    if own.final:
        return replace(own, reason=own.reason or _own_reason(own))
    if own.state != RUNNING:
        return replace(own, seen=False)
    last = own.attempts[-1] if own.attempts else None
    gone = last is not None and last.host == socket.gethostname() and not _lives(last.pid)
    if gone:
        return replace(own, state=KILLED, reason="its process has ended without a word: often too little memory")
    if own.silent_sec > SILENT_SEC:
        return replace(own, state=KILLED, reason=_silence(own))
    return own


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _own_reason(own: JobReport) -> str:
    """What the job itself noticed of its end."""
    if own.exit_code is None:
        return ""
    if own.exit_code < 0:
        return scheduler.killed_by(own.exit_code)
    return f"ended with exit code {own.exit_code}" if own.exit_code > 0 else ""


def _silence(own: JobReport) -> str:
    return f"no sign of life for {own.silent_sec / 60:.0f} min"


def _without_the_impossible(reports: Sequence[JobReport]) -> list[JobReport]:
    """A job that waits for one that did not finish never begins, whoever schedules it."""
    lost = {report.task.name: report.state for report in reports if report.final and report.state != FINISHED}
    found = list[JobReport]()
    for report in reports:  # a task comes after those that it needs
        missing = [name for name in report.task.after if name in lost]
        if missing and report.state in (WAITING, CANCELLED):
            word = lost[missing[0]]
            report = replace(report, state=CANCELLED, reason=f"needs {missing[0]}, which was {word}", seen=True)
            report = report if word != FAILED else replace(report, reason=f"needs {missing[0]}, which failed")
            lost[report.task.name] = CANCELLED
        found.append(report)
    return found
