"""The state of a job is right whatever becomes of it, from what it writes and from what SLURM knows."""

import os
import signal
import socket
import subprocess
import time

import pytest

from positronic.cluster.record import ALIVE_EVERY_SEC, Attempt, JobState, Submitted, Sweep, Task
from positronic.cluster.scheduler import Known, ask_slurm
from positronic.cluster.states import SILENT_SEC, states_of

NOW = 1_000_000.0
PATIENCE_SEC = 30.0


def sweep_in(folder, *jobs):
    """``jobs``: (name, job id, names of those before)."""
    submitted = [Submitted(Task(name, ("stage=train",), {}, tuple(after)), job_id) for name, job_id, after in jobs]
    return Sweep(folder, "act", "2026-01-02T03:04:05+00:00", "run.py", "/", {}, None, None, None, submitted)


def wrote(folder, state, silent_sec=1.0, exit_code=None, job_id="7", now_sec=NOW, **attempt):
    alive_sec = now_sec - silent_sec
    ended = None if state in ("running", "requeued") else alive_sec
    tried = Attempt(alive_sec - 100, "elsewhere", 1, job_id, ended_sec=ended, exit_code=exit_code)
    JobState(state, [Attempt(**vars(tried) | attempt)], alive_sec).write(folder)


def judged(folder, known, job_id="7"):
    """The report of the job, when SLURM says ``known`` of it; a dictionary is everything that it says."""
    said = known if known is None or isinstance(known, dict) else {"7": known}
    (report,) = states_of(sweep_in(folder, ("0", job_id, ())), lambda ids: said, lambda: NOW)
    return report


@pytest.mark.parametrize(
    ("state", "known", "expected", "reason"),
    [
        ("running", Known("RUNNING"), "running", ""),
        ("running", Known("COMPLETING"), "running", ""),
        ("running", Known("SUSPENDED"), "running", "suspended"),
        ("running", Known("TIMEOUT", "TimeLimit", -15), "killed", "reached its time limit"),
        ("running", Known("OUT_OF_MEMORY", "OutOfMemory", 0), "killed", "out of memory"),
        ("running", Known("NODE_FAIL"), "killed", "its node was lost"),
        ("running", Known("FAILED", "NonZeroExitCode", -9), "killed", "SIGKILL: often too little memory"),
        ("running", Known("FAILED", "NonZeroExitCode", 3), "failed", "exit code 3"),
        ("running", Known("CANCELLED"), "cancelled", "it was cancelled"),
        ("running", Known("PENDING", "BeginTime", restarts=1), "requeued", "begin a little later"),
        ("requeued", Known("PENDING", "Resources", restarts=1), "requeued", "waits for free resources"),
        ("requeued", Known("COMPLETING"), "requeued", ""),
        ("requeued", Known("RUNNING"), "running", ""),
        ("requeued", Known("CANCELLED"), "cancelled", "it was cancelled"),
        ("failed", Known("FAILED", "NonZeroExitCode", 1), "failed", "exit code 1"),
        ("failed", Known("OUT_OF_MEMORY"), "failed", "out of memory"),
        ("failed", Known("PENDING", "Priority"), "waiting", "waits behind jobs of higher priority"),
        ("finished", Known("PENDING"), "finished", ""),
        ("failed", {}, "failed", "exit code 1"),
        ("requeued", {}, "killed", "SLURM does not know it any more"),
    ],
)
def test_a_job_is_what_it_wrote_unless_slurm_knows_more(tmp_path, state, known, expected, reason):
    wrote(tmp_path / "0", state, exit_code=1 if state == "failed" else None)
    report = judged(tmp_path, known)
    assert report.state == expected
    assert reason in report.reason if reason else report.reason == ""


@pytest.mark.parametrize(
    ("known", "state", "reason"),
    [
        (Known("PENDING", "Resources"), "waiting", "waits for free resources"),
        (Known("PENDING", "ReqNodeNotAvail, UnavailableNodes:n7"), "waiting", "a node that is not available"),
        (Known("PENDING", "NewReasonOfSlurm"), "waiting", "waits: NewReasonOfSlurm"),
        (Known("PENDING", "DependencyNeverSatisfied"), "cancelled", "what it needs did not finish"),
        (Known("RUNNING", start_sec=NOW), "running", ""),
        ({}, "cancelled", "it did not begin, and SLURM does not know it any more"),
    ],
)
def test_a_job_that_has_not_begun_says_what_it_waits_for(tmp_path, known, state, reason):
    report = judged(tmp_path, known)
    assert report.state == state
    assert reason in report.reason


@pytest.mark.parametrize("known", [{}, None, Known("RUNNING")])
def test_a_job_that_is_silent_for_long_was_killed_whoever_says_that_it_runs(tmp_path, known):
    wrote(tmp_path / "0", "running", silent_sec=SILENT_SEC + 60)
    report = judged(tmp_path, known)
    assert (report.state, report.final) == ("killed", True)
    assert "no sign of life for 4 min" in report.reason


@pytest.mark.parametrize("known", [{}, None])
def test_a_job_that_wrote_a_moment_ago_runs_also_if_slurm_does_not_say_so(tmp_path, known):
    """It may be another cluster's SLURM that was asked."""
    wrote(tmp_path / "0", "running", silent_sec=ALIVE_EVERY_SEC)
    assert judged(tmp_path, known).state == "running"


def test_what_a_job_wrote_in_an_earlier_run_does_not_count_once_it_runs_again(tmp_path):
    wrote(tmp_path / "0", "killed", silent_sec=10 * SILENT_SEC)
    assert judged(tmp_path, Known("RUNNING", start_sec=NOW - 2)).state == "running"


def test_a_job_that_was_submitted_again_waits_although_it_failed_before(tmp_path):
    wrote(tmp_path / "0", "failed", exit_code=1, job_id="3")
    assert judged(tmp_path, None).state == "waiting"


def test_a_job_that_no_one_can_start_is_not_waited_for(tmp_path):
    report = judged(tmp_path, Known("PENDING", "PartitionTimeLimit"))
    assert report.stuck
    assert "never begins: its time limit is longer than the partition allows" in report.reason


def test_without_slurm_a_waiting_job_is_not_known_to_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    report = judged(tmp_path, None)
    assert (report.state, report.seen) == ("waiting", False)
    assert report.reason == "SLURM cannot be asked from this machine"


def test_what_needs_a_job_that_failed_never_begins_and_neither_does_what_needs_that(tmp_path):
    wrote(tmp_path / "convert", "failed", exit_code=1, job_id=None)
    sweep = sweep_in(tmp_path, ("convert", None, ()), ("train", None, ["convert"]), ("infer", None, ["train"]))
    convert, train, infer = states_of(sweep, now_sec=lambda: NOW)
    assert (convert.state, convert.reason) == ("failed", "ended with exit code 1")
    assert (train.state, train.reason) == ("cancelled", "needs convert, which failed")
    assert (infer.state, infer.reason) == ("cancelled", "needs train, which was cancelled")


def test_a_process_of_this_machine_that_has_ended_without_a_word_was_killed_at_once(tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    wrote(tmp_path / "0", "running", job_id=None, host=socket.gethostname(), pid=child.pid)
    assert judged(tmp_path, None, job_id=None).state == "running"
    child.kill()
    child.wait()
    report = judged(tmp_path, None, job_id=None)
    assert report.state == "killed"
    assert "its process has ended without a word" in report.reason


def test_a_file_that_is_no_state_is_said_of_its_job_and_the_others_are_known(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "job.json").write_text('{"state": ')
    wrote(tmp_path / "1", "finished", job_id=None)
    broken, fine = states_of(sweep_in(tmp_path, ("0", None, ()), ("1", None, ())), now_sec=lambda: NOW)
    assert "job.json cannot be read" in broken.reason
    assert fine.state == "finished"


def test_hours_are_those_of_all_attempts_without_the_time_in_the_queue(tmp_path):
    attempts = [
        Attempt(NOW - 7200, "a", 1, "7", 2, NOW - 5400, 130),
        Attempt(NOW - 3600, "b", 1, "7", 2),
    ]
    JobState("running", attempts, NOW - 5).write(tmp_path / "0")
    report = judged(tmp_path, Known("RUNNING"))
    assert (report.wall_sec, report.gpu_hours) == (5400, 3.0)


def test_a_slurm_that_hangs_or_fails_is_given_up_in_time(tmp_path, monkeypatch):
    for name, script in (("hangs", "exec sleep 60"), ("fails", "echo no contact >&2; exit 1")):
        squeue = tmp_path / name / "squeue"
        squeue.parent.mkdir()
        squeue.write_text(f"#!/bin/sh\n{script}\n")
        squeue.chmod(0o755)
        monkeypatch.setenv("PATH", f"{squeue.parent}:/usr/bin:/bin")
        began = time.monotonic()
        assert ask_slurm(["1"], timeout_sec=0.2) is None
        assert time.monotonic() - began < 5


def test_a_job_that_squeue_has_forgotten_is_looked_up_where_there_are_accounts(tmp_path, monkeypatch):
    """The answers are in the format of the manual pages of squeue and sacct."""
    accounts = "JobID|State|ExitCode\n8_1|CANCELLED by 1000|0:15\n9|OUT_OF_MEMORY|0:125\n8_0|FAILED|1:0"
    for name, script in (("squeue", "echo '8_0|RUNNING|None|0|0|1000|'"), ("sacct", f"echo '{accounts}'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    known = ask_slurm(["8_0", "8_1", "9", "10"])
    assert {job_id: each.state for job_id, each in known.items()} == {
        "8_0": "RUNNING",
        "8_1": "CANCELLED",
        "9": "OUT_OF_MEMORY",
    }


@pytest.fixture
def submit(slurm):
    """Submits a script; what is still there at the end is cancelled."""
    began = []

    def begin(script, *options):
        command = ["sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", script]
        began.append(slurm.ask(*command).strip())
        return began[-1]

    yield begin
    for job_id in began:
        slurm.ask("scancel", job_id)


def until(condition):
    """What ``condition`` gives, as soon as it is true."""
    end = time.monotonic() + PATIENCE_SEC
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def report_of(folder, job_id):
    (report,) = states_of(sweep_in(folder, ("0", job_id, ())))
    return report


def runs(job_id):
    return (ask_slurm([job_id]) or {}).get(job_id, Known("")).state == "RUNNING"


def test_one_question_to_slurm_tells_of_arrays_and_single_jobs(tmp_path, submit):
    array = submit("exit $SLURM_ARRAY_TASK_ID", "--array=0,3,137")
    held = submit("true", "--hold")
    never = submit("true", f"--dependency=afterok:{array}_3")
    ids = [f"{array}_0", f"{array}_3", f"{array}_137", held, never]
    sweep = sweep_in(tmp_path, *((str(index), job_id, ()) for index, job_id in enumerate(ids)))
    until(lambda: all(ask_slurm(ids)[each].state in ("COMPLETED", "FAILED") for each in ids[:3]))
    until(lambda: ask_slurm([never])[never].reason == "DependencyNeverSatisfied")
    silent, failed, killed, waiting, cancelled = states_of(sweep)
    assert (silent.state, silent.reason) == ("killed", "it ended without having written how")
    assert (failed.state, failed.reason) == ("failed", "ended with exit code 3")
    assert (killed.state, killed.reason) == ("killed", "SIGKILL: often too little memory")  # as srun says it
    assert (waiting.state, waiting.stuck) == ("waiting", True)
    assert (cancelled.state, cancelled.reason) == ("cancelled", "what it needs did not finish")


def test_a_job_killed_hard_is_known_at_once_and_a_cancelled_one_too(tmp_path, submit):
    job_id = submit(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    until(lambda: runs(job_id) and (tmp_path / "pid").exists())
    wrote(tmp_path / "0", "running", job_id=job_id, now_sec=time.time(), silent_sec=0)
    assert report_of(tmp_path, job_id).state == "running"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    killed = until(lambda: (found := report_of(tmp_path, job_id)).final and found)
    assert (killed.state, killed.reason) == ("killed", "SIGKILL: often too little memory")
    other = submit("exec sleep 60")
    until(lambda: runs(other))
    subprocess.run(["scancel", other], check=True)
    assert until(lambda: (found := report_of(tmp_path, other)).final and found).state == "cancelled"


def test_a_requeued_job_waits_for_its_next_run(tmp_path, submit):
    job_id = submit("exec sleep 60", "--requeue")
    until(lambda: runs(job_id))
    wrote(tmp_path / "0", "running", job_id=job_id, now_sec=time.time(), silent_sec=0)
    subprocess.run(["scontrol", "requeue", job_id], check=True)
    report = until(lambda: (found := report_of(tmp_path, job_id)).state == "requeued" and found)
    assert (report.final, report.stuck) == (False, False)


def test_a_job_that_slurm_never_had_is_left_out_of_its_answer(submit):
    job_id = submit("true", "--hold")
    assert set(ask_slurm([job_id, "99999999"])) == {job_id}
    assert ask_slurm(["99999999"]) == {}
