"""How long a training step takes: in our loop, bare, and in ``lerobot-train``, of the same policy on the same data.

    python scripts/bench_train.py                  # a tiny and a middling ACT, minutes
    python scripts/bench_train.py --sizes tiny

``overhead`` is by how many percent a step of our loop is longer than forward, backward, clipping and the optimiser's
step alone on tensors that are on the device already: batches that are made meanwhile, pictures that become float there,
metrics, progress. Both take turns, step by step, in one process; the median of their ratios counts. ``cpu_overhead``
is the same of all threads' CPU time, which a machine that is busy with other things disturbs less.

``vs_lerobot_train`` is how many times more samples a second we train than ``lerobot-train``. Each is a process of its
own, on a dataset that our bake made, offline, with the same batch size, network, precision and threads; what its own
log says of its steps counts, without the first ``LOG_FREQ`` of them. LeRobot's has ``--workers`` processes that decode,
ours has decoded before the first step. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.contenders import ours_with
from bench.ffmpeg import ROOT, environment
from bench.recordings import Size, Source, make_raw, make_recipe
from bench.silence import without_stderr
from bench.stepping import Steps, make_case, measure_steps
from rich.console import Console
from rich.table import Table

from positronic.utils.threads import wait_quietly

CORES = len(os.sched_getaffinity(0))
RECORDED = Size(320, 240)
LOG_FREQ = 5  # steps
SAID = re.compile(r"updt_s:([\d.]+) data_s:([\d.]+)")


@dataclass(frozen=True)
class Kind:
    """A size of ACT. ``side``: of its two pictures, in pixels. ``policy``: LeRobot's own fields."""

    side: int
    batch_size: int
    policy: Mapping[str, Any]


BOTH = {"chunk_size": 16, "n_action_steps": 16, "pretrained_backbone_weights": None}
TINY = {"dim_model": 64, "n_heads": 4, "dim_feedforward": 128, "n_encoder_layers": 1, "n_vae_encoder_layers": 1}
MIDDLING = {"dim_model": 256, "n_heads": 8, "dim_feedforward": 1024, "n_encoder_layers": 2, "n_vae_encoder_layers": 2}
KINDS = {"tiny": Kind(64, 8, BOTH | TINY), "middling": Kind(224, 8, BOTH | MIDDLING)}


@dataclass(frozen=True)
class Measured:
    """``steps``: of our loop and bare. ``ours``, ``lerobot``: seconds of a step in a process of its own; None where it
    was not measured."""

    steps: Steps
    ours: float
    lerobot: float | None


def main() -> None:
    options = parse()
    wait_quietly()  # as run.py does; LeRobot's process inherits it
    found = {}
    with tempfile.TemporaryDirectory(prefix="bench_train_") as name:
        scratch = Path(name)
        make_raw(scratch / "raw", RECORDED, options.episodes, options.length, CORES)
        for size in options.sizes.split(","):
            print(f"{size}: load {os.getloadavg()[0]:.1f}", flush=True)
            found[size] = measure(KINDS[size], scratch / size, scratch, options)
    Console(width=120).print(table_of(found))
    print(json.dumps(figures(found)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sizes", default=",".join(KINDS), help="of ACT, tiny,middling")
    add("--episodes", type=int, default=8, help="of the synthetic dataset, two cameras")
    add("--length", type=float, default=10.0, help="seconds of each episode")
    add("--steps", type=int, default=60, help="of each process")
    add("--workers", type=int, default=CORES, help="processes of lerobot-train's loader")
    add("--lerobot", action=argparse.BooleanOptionalAction, default=True, help="lerobot-train too")
    return parser.parse_args()


def measure(kind: Kind, folder: Path, scratch: Path, options: argparse.Namespace) -> Measured:
    """All of one size."""
    from positronic.raw.dataset import open_dataset

    root = folder / "baked"
    source = Source("bench", open_dataset(scratch / "raw"), make_recipe(size_of(kind)))
    with without_stderr():
        ours_with(source, CORES, "v3.0").run(root)
    typed = overrides_of(kind, options.steps)
    steps = measure_steps(make_case(root, typed), folder / "loop")
    ours = step_of_ours(typed, root, folder, scratch)
    lerobot = step_of_lerobot(kind, root, folder, scratch, options) if options.lerobot else None
    return Measured(steps, ours, lerobot)


# Ours


def size_of(kind: Kind) -> str:
    """What one types for its pictures."""
    return f"modality.image_size=[{kind.side},{kind.side}]"


def overrides_of(kind: Kind, steps: int) -> list[str]:
    """What one types to train it."""
    fixed = ["stage=train", "vendor=lerobot", "codec=ee", "precision=fp32", size_of(kind)]
    run = [f"num_train_steps={steps}", f"save_freq={steps}", f"log_freq={LOG_FREQ}", f"batch_size={kind.batch_size}"]
    policy = {name: "null" if value is None else value for name, value in kind.policy.items()}
    return [*fixed, *run, *(f"vendor.policy.{name}={value}" for name, value in policy.items())]


def step_of_ours(typed: list[str], root: Path, folder: Path, scratch: Path) -> float:
    """Seconds, by ``metrics.jsonl``."""
    where = [f"input_path={root}", f"output_dir={folder}", "exp_name=ours", f"hydra.run.dir={folder / 'hydra'}"]
    run([sys.executable, str(ROOT / "run.py"), *typed, *where], scratch)
    rows = [json.loads(line) for line in (folder / "ours" / "metrics.jsonl").read_text().splitlines()]
    batch_size = int(next(each for each in typed if each.startswith("batch_size=")).partition("=")[2])
    return statistics.median(batch_size / row["samples_per_sec"] for row in rows[1:])


# LeRobot's


def step_of_lerobot(kind: Kind, root: Path, folder: Path, scratch: Path, options: argparse.Namespace) -> float:
    """Seconds, by its log: waiting for a batch, and the update."""
    policy = {"type": "act", "device": "cpu", "push_to_hub": "false", **kind.policy}
    values = {f"policy.{name}": "null" if value is None else value for name, value in policy.items()}
    values |= {"dataset.repo_id": "local/bench", "dataset.root": root, "output_dir": folder / "lerobot"}
    values |= {"batch_size": kind.batch_size, "steps": options.steps, "log_freq": LOG_FREQ}
    values |= {"num_workers": options.workers, "save_checkpoint": "false", "wandb.enable": "false"}
    flags = [f"--{name}={value}" for name, value in values.items()]
    said = run([sys.executable, "-m", "lerobot.scripts.lerobot_train", *flags], scratch)
    steps = [float(update) + float(waiting) for update, waiting in SAID.findall(said)]
    return statistics.median(steps[1:])


def run(command: list[str], scratch: Path) -> str:
    """What it printed. Exits with that if it failed."""
    variables = environment(scratch / "ffmpeg") | {"OMP_NUM_THREADS": str(CORES)}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=scratch)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


# What comes out


def figures(found: Mapping[str, Measured]) -> dict[str, float]:
    """Of each size."""
    ratios = {}
    for size, each in found.items():
        clock, cpu = each.steps.overhead.tolist()
        ratios |= {f"{size}_overhead_percent": round(clock, 2), f"{size}_cpu_overhead_percent": round(cpu, 2)}
        if each.lerobot is not None:
            ratios[f"{size}_vs_lerobot_train"] = round(each.lerobot / each.ours, 2)
    return ratios


def table_of(found: Mapping[str, Measured]) -> Table:
    """A row per size; times in ms a step."""
    table = Table(title="A step of ACT, two cameras, on the CPU")
    table.add_column("", no_wrap=True)
    for heading in (
        "bare ms",
        "loop ms",
        "overhead %",
        "CPU %",
        "stage=train ms",
        "lerobot-train ms",
        "x lerobot-train",
    ):
        table.add_column(heading, justify="right")
    for size, each in found.items():
        times = [float(np.median(steps[:, 0])) * 1e3 for steps in (each.steps.bare, each.steps.loop)]
        own = [f"{value:.1f}" for value in (*times, *each.steps.overhead)]
        theirs = [] if each.lerobot is None else [f"{each.lerobot * 1e3:.1f}", f"{each.lerobot / each.ours:.2f}"]
        table.add_row(size, *own, f"{each.ours * 1e3:.1f}", *theirs)
    return table


if __name__ == "__main__":
    main()
