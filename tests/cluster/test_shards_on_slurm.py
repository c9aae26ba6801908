"""A bake in shards as jobs of a real SLURM."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from positronic import keys
from positronic.cluster.record import FAILED, FINISHED, read_job, read_sweep
from positronic.raw.layout import episode_path

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "tests/data/raw_v1"
BAKE = ["stage=convert", "vendor=lerobot", "codec=ee", "modality.image_size=[32,32]", "fps=5", "num_workers=1"]
CLUSTER = ["+cluster=slurm", "cluster.timeout_min=5"]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def typed_in(tmp_path):
    def run(*words):
        command = [sys.executable, str(ROOT / "run.py"), *BAKE, f"dataset.path={tmp_path / 'raw'}", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


def sweep_of(done):
    return read_sweep(Path(re.search(r"folder: +(.*)", done.stdout)[1]))


def states(sweep):
    found = {job.task.name: read_job(sweep.folder_of(job.task)) for job in sweep.jobs}
    return {name: state and state.state for name, state in found.items()}


def test_jobs_bake_the_dataset_of_one_bake_and_a_failed_one_is_submitted_alone(slurm, typed_in, tmp_path):
    """One shard fails, as its episode is bad. Mended, the same command submits that shard and the join."""
    shutil.copytree(PUBLISHED, tmp_path / "raw")
    assert typed_in("output_dir=plain").returncode == 0
    broken = episode_path(tmp_path / "raw", 1) / f"{keys.GRIP}.parquet"
    mended = broken.read_bytes()
    broken.write_bytes(b"not parquet")
    first = typed_in(*CLUSTER, "output_dir=sharded", "shards=3")
    assert first.returncode == 1, first.stderr
    found = states(sweep_of(first))
    assert {name: found[name] for name in ("shard_1", "shard_2", "shard_3")} == {
        "shard_1": FINISHED,
        "shard_2": FAILED,
        "shard_3": FINISHED,
    }
    assert found["join"] != FINISHED
    assert not (tmp_path / "sharded").exists()
    broken.write_bytes(mended)
    second = typed_in(*CLUSTER, "output_dir=sharded", "shards=3")
    assert second.returncode == 0, second.stdout + second.stderr
    assert states(sweep_of(second)) == {"shard_2": FINISHED, "join": FINISHED}
    assert contents(tmp_path / "sharded") == contents(tmp_path / "plain")
