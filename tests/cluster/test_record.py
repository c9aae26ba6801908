"""What is written of a sweep and its jobs is read again as it was."""

import pytest

from positronic.cluster.record import Attempt, JobState, Submitted, Sweep, Task, read_job, read_sweep
from positronic.errors import PositronicError

TASK = Task("1", ("stage=train", 'task=pick, "then" 拿起\nstop'), {"task": 'pick, "then" 拿起\nstop'}, ("0",))


def test_a_sweep_is_read_as_it_was_written(tmp_path):
    sweep = Sweep(tmp_path, "act", "2026-01-02T03:04:05+00:00", "run.py -m", "/w", {}, "c0", True, "code", [])
    sweep = Sweep(**vars(sweep) | {"jobs": [Submitted(TASK, "12_1")]})
    sweep.write()
    assert read_sweep(tmp_path) == sweep


def test_a_job_is_read_as_it_was_written(tmp_path):
    state = JobState("failed", [Attempt(1.0, "node7", 12, "12_1", 2, 3.5, -9)], 3.5, ["Killed"])
    state.write(tmp_path)
    assert read_job(tmp_path) == state


def test_a_job_that_has_not_begun_has_no_state(tmp_path):
    assert read_job(tmp_path) is None


def test_a_folder_without_a_sweep_is_refused_by_name(tmp_path):
    with pytest.raises(PositronicError, match=r"holds no sweep: there is no sweep\.json"):
        read_sweep(tmp_path)
