"""A sweep in a real SLURM, in which a job may end at any time: what becomes of each job, and of who waits for it.

Four jobs train the same: one is left in peace, one is warned of its time limit, one is queued again by SLURM, one is
killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training.conftest import SIDE, TINY_ACT, record, tiny_recipe

import positronic
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.reader import open_baked
from positronic.cluster.config import SlurmConfig
from positronic.cluster.record import CANCELLED, FAILED, FINISHED, KILLED, Task, read_job, read_sweep
from positronic.cluster.states import states_of
from positronic.cluster.submission import submit
from positronic.raw.dataset import open_dataset

ROOT = Path(__file__).resolve().parents[2]
STEPS, BEGUN = 60, 5
WHOLE, WARNED, MOVED, LOST = "whole", "warned", "moved", "lost"
SENTENCE = "pick \"it\", [then] {stop}; a=b, 'so' \\ 拿起\nand $HOME"
VERSIONS = {"commit": None, "dirty": None, "versions": {}}
SMALL = ["vendor=lerobot", "codec=ee", f"modality.image_size=[{SIDE},{SIDE}]"]
TRAIN = ["stage=train", *SMALL, "modality.action_horizon_sec=0.2", "batch_size=3", "device=cpu", "log_freq=1"]
TRAIN += [f"vendor.policy.{name}={value}" for name, value in TINY_ACT.items()]
WAIT_SEC, LOOK_SEC = 240.0, 0.1


def until(true, process=None):
    end = time.monotonic() + WAIT_SEC
    while not true():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(LOOK_SEC)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a recording, ``raw``, and its dataset, ``baked``."""
    folder = tmp_path_factory.mktemp("cluster")
    record(folder / "raw")
    bake(open_dataset(folder / "raw"), tiny_recipe(), folder / "baked", BakeOptions("lerobot", num_workers=1), VERSIONS)
    return folder


@pytest.fixture(scope="module")
def swept(slurm, place):
    """The sweep after all of that, and what its parent said."""
    typed = [*TRAIN, f"input_path={place / 'baked'}", f"num_train_steps={STEPS}", "cache_gb=0", "frame_cache=none"]
    typed += ["num_workers=1", f"exp_name={json.dumps([WHOLE, WARNED, MOVED, LOST])}"]
    command = [sys.executable, str(ROOT / "run.py"), "+cluster=slurm", "sweep.name=four", *typed]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=place, env=environment, **pipes) as parent:
        try:
            until(lambda: list(place.glob("multirun/*/*_four/sweep.json")), parent)
            (path,) = place.glob("multirun/*/*_four/sweep.json")
            until(lambda: all(job.job_id for job in read_sweep(path.parent).jobs), parent)
            _disturb(slurm, read_sweep(path.parent), parent)
            said, _ = parent.communicate(timeout=WAIT_SEC)
        finally:
            parent.kill()
    return read_sweep(path.parent), said, parent.returncode


def _disturb(slurm, sweep, parent):
    """Each as soon as it trains."""
    ids = {job.task.name: job.job_id for job in sweep.jobs}
    names = {name_of(job.task): job.task.name for job in sweep.jobs}
    how = {
        WARNED: lambda job: slurm.ask("scancel", "--signal=USR2", ids[job]),  # to all of it, as near its time limit
        MOVED: lambda job: slurm.ask("scontrol", "requeue", ids[job]),  # SIGTERM, SIGKILL, and another start
        LOST: lambda job: os.kill(read_job(sweep.folder / job).attempts[-1].pid, signal.SIGKILL),
    }

    def ready():
        return [name for name in how if len(losses(sweep, names[name])) >= BEGUN]

    while how:
        until(ready, parent)
        for name in ready():
            how.pop(name)(names[name])


def name_of(task):
    return task.varying["exp_name"]


def losses(sweep, job):
    """``[(step, loss)]`` of the job in the folder of this name."""
    for path in (sweep.folder / job).glob("*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return [(row["step"], row["loss"]) for row in rows]
    return []


def of(sweep, name):
    """The folder's name of the job with this name of an experiment."""
    (job,) = [job.task.name for job in sweep.jobs if name_of(job.task) == name]
    return job


@pytest.mark.timeout(600)
def test_the_parent_says_what_became_of_each_job_and_does_not_wait_for_one_that_was_killed_hard(swept):
    """Without accounting, too."""
    sweep, said, code = swept
    found = {report.task.name: report.state for report in states_of(sweep)}
    assert found == {of(sweep, name): FINISHED for name in (WHOLE, WARNED, MOVED)} | {of(sweep, LOST): KILLED}, said
    assert "1 killed, 3 finished" in said
    assert code == 1, said


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [WARNED, MOVED])
def test_a_job_that_is_started_again_goes_on_as_if_nothing_had_happened(swept, name):
    """Every step once, with the losses of a job that was left in peace, bit for bit."""
    sweep, said, _ = swept
    assert len(read_job(sweep.folder / of(sweep, name)).attempts) == 2, said
    assert losses(sweep, of(sweep, name)) == losses(sweep, of(sweep, WHOLE))
    assert [step for step, _ in losses(sweep, of(sweep, name))] == list(range(1, STEPS + 1))


@pytest.mark.timeout(600)
def test_a_chain_of_jobs_goes_on_where_all_before_have_finished(slurm, place, monkeypatch):
    """A sentence arrives in its job as it was typed; what needs a job that failed does not begin. All this also where a
    site keeps the variables of a shell from its jobs."""
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    raw, out = f"dataset.path={place / 'raw'}", place / "chained"
    bake_it = ("stage=convert", *SMALL, raw, f"task={SENTENCE}", "num_workers=1")
    train_it = (*TRAIN, f"input_path={out}", f"output_dir={place}", "num_train_steps=2")
    tasks = [
        Task("bake", (*bake_it, f"output_dir={out}")),
        Task("train", (*train_it, "exp_name=after"), after=("bake",)),
        Task("diverge", (*train_it, "exp_name=diverged", "learning_rate=1e30"), after=("bake",)),
        Task("late", (*train_it, "exp_name=late"), after=("diverge",)),
    ]
    sweep = submit(tasks, SlurmConfig(name="slurm", timeout_min=60), place / "chain", "chain", "by hand")
    until(lambda: all(report.final for report in states_of(sweep)))
    swept = positronic.run(positronic.compose(["stage=sweep", f"sweep={place / 'chain'}"]))  # nobody else waits for it
    found = {row.report.task.name: row.report.state for row in swept.results}
    assert found == {"bake": FINISHED, "train": FINISHED, "diverge": FAILED, "late": CANCELLED}
    assert set(open_baked(out).tasks) == {SENTENCE}
    assert "learning_rate" in " ".join(read_job(sweep.folder / "diverge").last_lines)
