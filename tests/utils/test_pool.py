"""Worker processes: every task done, every failure told, nobody left behind."""

import math
import operator
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from positronic import geometry
from positronic.errors import PositronicError
from positronic.utils.pool import WorkerPool, worker_count

ABANDONED = """
import os, signal, time
from contextlib import nullcontext
from positronic.utils.pool import WorkerPool

if __name__ == "__main__":
    pool = WorkerPool(2, nullcontext, time.sleep)
    pool.submit(600)
    pool.submit(0)
    next(pool.results())
    print(*(process.pid for process in pool._workers.values()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


# Two more SIGTERMs come while the worker leaves.
TIDYING = """
import os, signal, sys, time
from contextlib import contextmanager
from pathlib import Path
from positronic.utils.pool import WorkerPool

@contextmanager
def tidying():
    try:
        yield time.sleep
    finally:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        Path(sys.argv[1]).touch()

if __name__ == "__main__":
    with WorkerPool(1, tidying) as pool:
        pool.submit(0)
        next(pool.results())
        raise KeyboardInterrupt
"""


def test_every_task_gives_its_result_once():
    """More tasks than processes: all are done."""
    with WorkerPool(2, nullcontext, operator.neg) as pool:
        for task in range(10):
            pool.submit(task)
        assert sorted(pool.results()) == [-9, -8, -7, -6, -5, -4, -3, -2, -1, 0]


def test_tasks_may_be_added_while_results_come():
    """A result can lead to the next task."""
    seen = []
    with WorkerPool(1, nullcontext, operator.neg) as pool:
        pool.submit(1)
        for result in pool.results():
            seen.append(result)
            if len(seen) < 3:
                pool.submit(result)
    assert seen == [-1, 1, -1]


def test_a_users_mistake_arrives_as_it_is():
    """A PositronicError raised in a worker is raised here."""
    with WorkerPool(1, nullcontext, geometry.quat_normalise) as pool:
        pool.submit([0, 0, 0, 0])
        with pytest.raises(PositronicError, match="Quaternion has no direction"):
            list(pool.results())


def test_any_other_failure_arrives_with_its_traceback():
    """The worker's traceback is in the message."""
    with WorkerPool(1, nullcontext, math.sqrt) as pool:
        pool.submit(-1)
        with pytest.raises(RuntimeError, match=r"(?s)A worker failed:.*ValueError: "):
            list(pool.results())


def test_a_worker_that_dies_is_noticed():
    """Exit code and task are named, and what to try."""
    with WorkerPool(1, nullcontext, os._exit) as pool:
        pool.submit(3)
        with pytest.raises(PositronicError, match=r"exit code 3 while it was busy with 3\..*num_workers=1"):
            list(pool.results())


def test_a_worker_that_somebody_else_asks_to_end_is_an_interruption():
    """A scheduler's SIGTERM to all reaches it before it reaches us."""
    pool = WorkerPool(1, nullcontext, signal.raise_signal)
    pool.submit(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), pool:
        list(pool.results())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR2])
def test_workers_leave_other_signals_to_their_parent(number):
    """A terminal and a scheduler send them to all."""
    with WorkerPool(1, nullcontext, signal.raise_signal) as pool:
        pool.submit(number)
        assert list(pool.results()) == [None]


def test_leaving_by_an_exception_stops_workers_in_their_tasks():
    """A worker with ten minutes to go ends at once when the other one fails."""
    pool = WorkerPool(2, nullcontext, time.sleep)
    pool.submit(600)
    pool.submit(-1)
    with pytest.raises(RuntimeError, match="sleep length must be non-negative"), pool:
        list(pool.results())
    assert not any(process.is_alive() for process in pool._workers.values())


def test_more_signals_do_not_disturb_a_worker_that_leaves(tmp_path):
    """A scheduler sends SIGTERM to all processes, and the parent to its workers."""
    (tmp_path / "script.py").write_text(TIDYING)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "tidied"]
    assert subprocess.run(command, check=False, capture_output=True).stderr.endswith(b"\nKeyboardInterrupt\n")
    assert (tmp_path / "tidied").exists()


def test_a_second_signal_kills_workers_that_were_only_asked_to_end(monkeypatch):
    """It comes while the first one is obeyed, maybe by workers that still start and hear nothing."""
    pool = WorkerPool(1, nullcontext, time.sleep)
    (process,) = pool._workers.values()

    def interrupted(timeout=None, join=process.join):
        join(0 if timeout else None)
        if timeout:
            raise KeyboardInterrupt

    monkeypatch.setattr(process, "terminate", lambda: None)
    monkeypatch.setattr(process, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.stop()
    assert process.exitcode == -signal.SIGKILL


def test_workers_do_not_outlive_a_killed_parent(ends, tmp_path):
    """SIGKILL leaves the parent no time to clean up; its workers end by themselves, in the middle of a task too."""
    script = tmp_path / "abandoned.py"
    script.write_text(ABANDONED)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    workers = [int(pid) for pid in result.stdout.split()]
    assert len(workers) == 2
    assert all(ends(pid) for pid in workers)


def test_no_more_workers_than_tasks():
    """0 is one per core, and never more than there is to do."""
    assert worker_count(8, 3) == 3
    assert worker_count(0, 1) == 1
    assert worker_count(0, 10**6) == len(os.sched_getaffinity(0))
