"""Tasks as jobs of a real SLURM: what becomes of each, whatever ends it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from positronic.cluster import submission
from positronic.cluster.config import SlurmConfig
from positronic.cluster.record import CANCELLED, FAILED, FINISHED, KILLED, Task, read_job, read_sweep
from positronic.cluster.states import states_of
from positronic.errors import PositronicError

ROOT = Path(__file__).resolve().parents[2]
# In place of run.py: waits until it is told to save, unless it goes on from what it saved.
SCRIPT = """
import os, signal, sys, time
told = dict(word.partition("=")[::2] for word in sys.argv[1:])
def save(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print(told.get("say", "hello"), told.get("resume"), flush=True)
if "wait" in told and "resume" not in told:
    print("waiting", flush=True)
    time.sleep(100)
sys.exit(int(told.get("exit", 0)))
"""


@pytest.fixture
def submit(slurm, tmp_path, monkeypatch):
    """``submit(*tasks, **settings)``: the sweep, of a tree whose run.py is the script above."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "run.py").write_text(SCRIPT)
    (tree / "conf").mkdir()
    (tree / "positronic").symlink_to(ROOT / "positronic")
    monkeypatch.setattr(submission, "ROOT", tree)
    monkeypatch.chdir(tmp_path)

    def run(*tasks, **settings):
        config = SlurmConfig(name="slurm", timeout_min=5, signal_delay_sec=10, **settings)
        return submission.submit(tasks, config, tmp_path / "sweep", "test", "typed")

    return run


def wait_for(condition, within_sec=90):
    end = time.monotonic() + within_sec
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def log(sweep, name):
    path = sweep.folder / name / "log.txt"
    return path.read_text().splitlines() if path.exists() else []


def ended(sweep):
    wait_for(lambda: all(report.final for report in states_of(sweep)))
    return {report.task.name: report.state for report in states_of(sweep)}


def test_a_failing_job_stops_only_those_that_need_it(submit):
    """Arguments arrive as they are; ids are written down; what cannot begin any more is cancelled."""
    words = "a, \"b\" [c]={d} 'e' $HOME 拿起\nf"
    tasks = Task("good", (f"say={words}",)), Task("bad", ("exit=3",)), Task("after", (), after=("bad",))
    sweep = submit(*tasks, Task("then", (), after=("good",)))
    assert ended(sweep) == {"good": FINISHED, "bad": FAILED, "after": CANCELLED, "then": FINISHED}
    assert "\n".join(log(sweep, "good")) == f"{words} None"
    ids = [job.job_id for job in read_sweep(sweep.folder).jobs]
    assert ids[0].partition("_")[0] == ids[1].partition("_")[0]
    assert [read_job(sweep.folder / name).attempts[0].job_id for name in ("good", "bad")] == ids[:2]
    assert read_job(sweep.folder / "bad").attempts[0].exit_code == 3


def test_a_job_that_has_to_make_room_saves_and_goes_on(submit):
    """SLURM's SIGUSR2, which comes before the time limit, reaches the whole job; the command is told once."""
    sweep = submit(Task("0", ("stage=train", "wait=1")))
    wait_for(lambda: "waiting" in log(sweep, "0"))
    subprocess.run(["scancel", "--signal=USR2", sweep.jobs[0].job_id], check=True)
    assert ended(sweep) == {"0": FINISHED}
    assert log(sweep, "0") == ["hello None", "waiting", "saved", "hello true"]
    assert [attempt.exit_code for attempt in read_job(sweep.folder / "0").attempts] == [130, 0]


def test_a_job_is_requeued_so_often_and_then_says_what_to_do(submit):
    """What it saved is there."""
    sweep = submit(Task("0", ("stage=train", "wait=1")), max_requeues=0)
    wait_for(lambda: "waiting" in log(sweep, "0"))
    subprocess.run(["scancel", "--signal=USR2", sweep.jobs[0].job_id], check=True)
    assert ended(sweep) == {"0": FAILED}
    assert "timed-out too many times" in read_job(sweep.folder / "0").last_lines[0]
    submission.resubmit(sweep, "failed")
    assert ended(read_sweep(sweep.folder)) == {"0": FINISHED}
    assert log(sweep, "0")[-2:] == ["saved", "hello true"]


def test_a_cancelled_job_saves_and_is_not_requeued(submit):
    """scancel, as a person types it."""
    sweep = submit(Task("0", ("wait=1",)), Task("1", ()))
    wait_for(lambda: "waiting" in log(sweep, "0"))
    subprocess.run(submission.how_to_cancel(sweep).split(), check=True)
    assert ended(sweep)["0"] == CANCELLED
    assert log(sweep, "0")[-1] == "saved"


def test_a_command_killed_hard_is_reported_as_such(submit):
    """As by the kernel when memory is short; the others go on."""
    sweep = submit(Task("0", ("wait=1",)), Task("1", ()))
    wait_for(lambda: "waiting" in log(sweep, "0"))
    (pid,) = children_of(read_job(sweep.folder / "0").attempts[0].pid)
    os.kill(pid, signal.SIGKILL)
    assert ended(sweep) == {"0": KILLED, "1": FINISHED}


def test_what_sbatch_refuses_leaves_nothing_behind(submit, tmp_path):
    """With its own words."""
    with pytest.raises(PositronicError, match="sbatch refuses the jobs: .*reservation"):
        submit(Task("0", ()), sbatch={"reservation": "nosuch"})
    assert not (tmp_path / "sweep").exists()


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
