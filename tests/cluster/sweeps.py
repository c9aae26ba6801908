"""Sweeps as their jobs would have left them: what a stage writes into the folder of its run."""

import json
import math

from positronic.cluster.record import Attempt, JobState, Submitted, Sweep, Task

BEGAN = 1_000_000.0


def sweep_in(folder, *varying, job_ids=True):
    """One job for each of ``varying``, named by its number."""
    jobs = [
        Submitted(Task(str(n), ("stage=train",), values), f"7_{n}" if job_ids else None)
        for n, values in enumerate(varying)
    ]
    command = "python run.py -m +cluster=slurm stage=train seed=0,1"
    sweep = Sweep(folder, "act", "2026-01-02T03:04:05+00:00", command, str(folder), {}, "c0ffee", True, "code", jobs)
    sweep.write()
    return sweep


def ended(folder, state, seconds=60.0, exit_code=0, lines=(), gpus=0):
    """What the job says of itself."""
    attempt = Attempt(BEGAN, "elsewhere", 1, None, gpus, BEGAN + seconds, exit_code)
    JobState(state, [attempt], BEGAN + seconds, lines).write(folder)


def trained(folder, steps, of_steps=100, floor=0.1, held_out=False, checkpoints=()):
    """A training that is at ``steps``: its loss falls towards ``floor``."""
    config = {"stage": "train", "output_dir": str(folder), "exp_name": "lerobot_ee", "num_train_steps": of_steps}
    _provenance(folder, config)
    experiment = folder / "lerobot_ee"
    experiment.mkdir(parents=True, exist_ok=True)
    rows = [{"step": step, "loss": floor + math.exp(-step / 20)} for step in range(1, steps + 1)]
    for row in rows[9::10] if held_out else ():
        row["val_loss"] = row["loss"] + 0.1 * (row["step"] - 30) ** 2 / 900
    (experiment / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in checkpoints:
        (experiment / "checkpoints" / f"{step:06d}").mkdir(parents=True)
        (experiment / "checkpoints" / f"{step:06d}" / "positronic.json").write_text("{}")


def evaluated(folder, successes, episodes, planned=None):
    """An evaluation that has played ``episodes``."""
    driver = {"num_episodes": planned or episodes}
    _provenance(folder, {"stage": "infer", "output_dir": f"{folder}/rollouts", "driver": driver})
    (folder / "rollouts").mkdir(parents=True)
    (folder / "rollouts" / "report.json").write_text(json.dumps({"n": episodes, "successes": successes}))


def _provenance(folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "provenance.json").write_text(json.dumps({"overrides": [], "config": config}))
