"""A sweep is watched until its jobs have ended or nothing more can be known of them, and never disturbed by it."""

import io
import os
import signal
import threading

import pytest
from rich.console import Console

from positronic.cluster import watch
from positronic.cluster.record import JobState, Submitted, Sweep, Task
from positronic.cluster.states import JobReport


def sweep_in(folder, *job_ids):
    jobs = [Submitted(Task(str(n), (), {"seed": str(n)}), job_id) for n, job_id in enumerate(job_ids)]
    return Sweep(folder, "act", "2026-01-02T03:04:05+00:00", "run.py", "/", {}, None, None, None, jobs)


def seen(sweep, *states, **what):
    pairs = zip(sweep.jobs, states, strict=True)
    return [JobReport(job.task, sweep.folder, job.job_id, state, **what) for job, state in pairs]


def looks(*answers):
    """Gives one answer after another, the last one for ever."""
    left = list(answers)
    return lambda sweep: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(watch, "FIRST_SEC", 0.001)


def test_each_change_is_a_line_where_there_is_no_terminal(tmp_path):
    sweep, said = sweep_in(tmp_path, "7_0", "7_1"), io.StringIO()
    waiting = seen(sweep, "waiting", "waiting", reason="waits for free resources")
    look = looks(waiting, waiting, seen(sweep, "running", "waiting"), seen(sweep, "finished", "failed"))
    reports = watch.wait(sweep, Console(file=said, width=80), look)
    assert [report.state for report in reports] == ["finished", "failed"]
    assert said.getvalue().splitlines() == [
        "2 waiting (2 jobs)",
        "0 waits for free resources",
        "0: running  seed=0",
        "1 running, 1 waiting (2 jobs)",
        "0: finished  seed=0",
        "1: failed  seed=1",
        "1 failed, 1 finished (2 jobs)",
    ]


def test_a_terminal_shows_the_table_in_its_place(tmp_path):
    sweep, said = sweep_in(tmp_path, "7_0", "7_1"), io.StringIO()
    console = Console(file=said, width=80, force_terminal=True)
    watch.wait(sweep, console, looks(seen(sweep, "running", "waiting"), seen(sweep, "finished", "finished")))
    for word in ("act: 1 running, 1 waiting (2 jobs)", "seed", "act: 2 finished (2 jobs)"):
        assert word in said.getvalue()


@pytest.mark.parametrize("what", [{"seen": False}, {"stuck": True}])
def test_what_nobody_knows_of_or_can_begin_is_not_waited_for_without_end(tmp_path, what):
    sweep, said = sweep_in(tmp_path, "7"), io.StringIO()
    reports = watch.wait(sweep, Console(file=said, width=80), looks(seen(sweep, "waiting", **what)), 0.05)
    assert reports[0].state == "waiting"
    assert "1 job has not ended, and nothing has changed" in said.getvalue()


def test_ctrl_c_ends_the_watching_alone_and_says_how_to_go_on_and_how_to_cancel(tmp_path):
    sweep, said = sweep_in(tmp_path, "7_0", "7_1", "9"), io.StringIO()
    running = seen(sweep, "running", "running", "waiting")
    later = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    later.start()
    with pytest.raises(KeyboardInterrupt):
        watch.wait(sweep, Console(file=said, width=80), looks(running))
    later.join()
    assert f"python run.py stage=sweep sweep={tmp_path} watch=true" in said.getvalue()
    assert "scancel 7 9" in said.getvalue()


def test_files_alone_are_watched_to_their_end(tmp_path):
    sweep = sweep_in(tmp_path, None)
    JobState("finished").write(tmp_path / "0")
    assert watch.wait(sweep, Console(file=io.StringIO()))[0].state == "finished"
