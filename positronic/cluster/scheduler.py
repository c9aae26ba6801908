"""What SLURM knows of jobs: one question for all of them, with a limit on the time of the answer.

``squeue`` knows a job from its submission until ``MinJobAge`` seconds (300 by default) after its end; ``sacct``, where
a site has a database for it, remembers it for good. ``squeue`` is asked for whole arrays, so that the question stays
short however many jobs there are.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

TIMEOUT_SEC = 10.0
FIELDS = ("JobArrayID", "State", "Reason", "exit_code", "RestartCnt", "StartTime")  # of squeue --Format
ACCOUNTED = ("JobID", "State", "ExitCode")  # of sacct --format
SHELL_SIGNALS = 128
UNKNOWN_ID = "Invalid job id"  # what squeue says if it knows none of them
NO_REASON = ("None", "")
# States of SLURM, https://slurm.schedmd.com/job_state_codes.html: those before a start, those of a job that has nodes.
PENDING = frozenset(
    ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
)
SUSPENDED = frozenset(("SUSPENDED", "STOPPED"))
ENDING = "COMPLETING"
ACTIVE = SUSPENDED | {"RUNNING", ENDING, "SIGNALING", "RESIZING", "STAGE_OUT"}
COMPLETED, CANCELLED = "COMPLETED", "CANCELLED"
# Why a job waits, in plain words; https://slurm.schedmd.com/job_reason_codes.html has all.
WAITS = {
    "Resources": "waits for free resources",
    "Priority": "waits behind jobs of higher priority",
    "Dependency": "waits for jobs before it",
    "BeginTime": "SLURM lets it begin a little later: after a requeue, in about two minutes",
    "JobArrayTaskLimit": "waits until fewer jobs of this sweep run",
    "Licenses": "waits for a licence",
    "Reservation": "waits for its reservation",
    "Cleaning": "its last run is being cleaned up",
    "ReqNodeNotAvail": "waits for a node that is not available: down, drained or reserved",
    "NodeDown": "waits for a node that is down",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is inactive",
}
# Reasons that only a person mends.
STUCK = {
    "PartitionTimeLimit": "never begins: its time limit is longer than the partition allows",
    "PartitionNodeLimit": "never begins: the partition allows no such number of nodes, or they are down",
    "BadConstraints": "never begins: no node is as its constraint says",
    "InvalidAccount": "never begins: its account is not valid",
    "InvalidQOS": "never begins: its quality of service is not valid",
    "JobHeldUser": "is held; to let it begin, type scontrol release",
    "JobHeldAdmin": "is held by an administrator",
    "launch failed requeued held": "is held, because SLURM could not start it; to try again, type scontrol release",
}
NEVER = "DependencyNeverSatisfied"
# How SLURM ended a job, in plain words.
ENDS = {
    "TIMEOUT": "it reached its time limit",
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "its node was lost",
    "BOOT_FAIL": "its node did not start",
    "PREEMPTED": "it gave way to another job",
    "DEADLINE": "its deadline passed",
    "REVOKED": "SLURM took it back",
}


@dataclass(frozen=True)
class Known:
    """What SLURM says of a job. ``state``: its word. ``reason``: its word for why the job waits or ended; empty if it
    gives none. ``exit_code``: as of ``subprocess``, negative for a signal; None before the end. ``restarts``: how often
    it was requeued. ``start_sec``: of its last start, seconds since 1970; 0 if it is not told."""

    state: str
    reason: str = ""
    exit_code: int | None = None
    restarts: int = 0
    start_sec: float = 0.0

    @property
    def waits(self) -> bool:
        return self.state in PENDING

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def why_waiting(self) -> str:
        """The reason in plain words."""
        if self.reason in NO_REASON:
            return "waits for SLURM"
        for reasons in (WAITS, STUCK):
            for word, meaning in reasons.items():
                if self.reason.startswith(word):  # ReqNodeNotAvail, UnavailableNodes:node7
                    return meaning
        return f"waits: {self.reason}"

    def why_ended(self) -> str:
        """How it ended, in plain words."""
        if self.state in ENDS:
            return ENDS[self.state]
        if self.exit_code is not None and self.exit_code < 0:
            return killed_by(self.exit_code)
        return f"SLURM says {self.state}" + (f" ({self.reason})" if self.reason not in NO_REASON else "")


def killed_by(exit_code: int) -> str:
    """``exit_code``: negative, of a process that a signal ended."""
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"{name}: often too little memory" if name == "SIGKILL" else f"ended by {name}"


def has_slurm() -> bool:
    """Whether this machine has the commands of a SLURM cluster."""
    return shutil.which("squeue") is not None


def ask_slurm(job_ids: Iterable[str], timeout_sec: float = TIMEOUT_SEC) -> dict[str, Known] | None:
    """What SLURM knows of these jobs (``12`` or ``12_3``), by id; those that it does not know are left out.

    None if there is no SLURM here, or it fails or gives no answer in time.
    """
    wanted = set(job_ids)
    if not wanted or not has_slurm():
        return None
    known = _queue(_arrays(wanted), timeout_sec)
    if known is None:
        return None
    forgotten = wanted - set(known)
    known = dict(_accounted(_arrays(forgotten), timeout_sec)) | known if forgotten else known
    return {job_id: known[job_id] for job_id in wanted if job_id in known}


def _arrays(job_ids: Iterable[str]) -> list[str]:
    """Each array once, instead of its jobs."""
    return sorted({job_id.partition("_")[0] for job_id in job_ids})


def _queue(ids: Sequence[str], timeout_sec: float) -> dict[str, Known] | None:
    form = ",".join(f"{name}:|" for name in FIELDS)
    done = _answer(
        ["squeue", "--noheader", "--all", "--array", "--states=all", f"--jobs={','.join(ids)}", "-O", form], timeout_sec
    )
    if done is None:
        return None
    if done.returncode != 0:
        return {} if UNKNOWN_ID in done.stderr else None
    rows = (line.split("|") for line in done.stdout.splitlines())
    return {row[0].strip(): _of_queue(row) for row in rows if len(row) >= len(FIELDS)}


def _of_queue(row: Sequence[str]) -> Known:
    _, state, reason, status, restarts, start = (text.strip() for text in row[: len(FIELDS)])
    ended = state not in PENDING | ACTIVE
    exit_code = _of_wait_status(_number(status)) if ended and status else None
    return Known(state, "" if reason in NO_REASON else reason, exit_code, _number(restarts), _number(start))


def _number(text: str) -> int:
    """Zero for ``N/A``."""
    return int(text) if text.isdecimal() else 0


def _of_wait_status(status: int) -> int | None:
    """SLURM tells the number that ``wait`` gave it; its own stand for nothing here. Between SLURM and the job is srun,
    which reports a signal as shells do, 128 more than its number."""
    try:
        code = os.waitstatus_to_exitcode(status)
    except ValueError:
        return None
    return SHELL_SIGNALS - code if code > SHELL_SIGNALS else code


def _accounted(ids: Sequence[str], timeout_sec: float) -> Mapping[str, Known]:
    """The answer of ``sacct``; empty where there is none."""
    if shutil.which("sacct") is None:
        return {}
    asked = ["sacct", "--allocations", "--parsable2", f"--format={','.join(ACCOUNTED)}", f"--jobs={','.join(ids)}"]
    done = _answer(asked, timeout_sec)
    return dict(_of_accounts(done.stdout.splitlines())) if done is not None and done.returncode == 0 else {}


def _of_accounts(lines: Sequence[str]) -> Iterator[tuple[str, Known]]:
    heads = lines[0].split("|") if lines else []
    for line in lines[1:]:
        row = dict(zip(heads, line.split("|"), strict=False))
        state = row.get("State", "").split(" ")[0]  # CANCELLED by 1000
        if state:
            yield row.get("JobID", ""), Known(state, exit_code=_exit_code(row.get("ExitCode", "")))


def _exit_code(text: str) -> int | None:
    """``<code>:<signal>`` as of ``subprocess``."""
    code, _, number = text.partition(":")
    if not (code.isdecimal() and number.isdecimal()):
        return None
    return -int(number) if int(number) else int(code)


def _answer(command: Sequence[str], timeout_sec: float) -> subprocess.CompletedProcess[str] | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    environment["SLURM_TIME_FORMAT"] = "%s"  # seconds since 1970, whatever the time zones
    try:
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_sec,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
