"""Cores and threads."""

import os
import subprocess
import sys

import pytest

from positronic.utils import threads
from positronic.utils.pool import worker_count
from positronic.utils.threads import UNLIMITED, available_cores, cpu_quota


@pytest.fixture
def quota_of(tmp_path):
    """``quota_of(membership, {file: text})``: the quota that this process would find there."""

    def find(membership, files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "membership").write_text(membership)
        return cpu_quota(tmp_path, tmp_path / "membership")

    return find


def version_1(folder, quota_us):
    """The files of a cgroup of version 1."""
    return {f"{folder}/cpu.cfs_quota_us": f"{quota_us}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, UNLIMITED),
        ("0::/pod/box\n", {"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, 3),
        ("0::/known/to/the/host/only\n", {"cpu.max": "100000 100000\n"}, 1),
        ("3:cpuset:/\n1:cpu:/box\n", version_1("cpu/box", 400000), 4),
        ("4:cpu,cpuacct:/\n", version_1("cpu,cpuacct", 50000), 1),
        ("1:cpu:/\n0::/\n", version_1("cpu", -1), UNLIMITED),
        ("", {}, UNLIMITED),
    ],
)
def test_a_containers_quota_is_found(quota_of, membership, files, cores):
    """Of both versions of cgroups, of the cgroup itself or one around it, rounded up to whole cores."""
    assert quota_of(membership, files) == cores


def test_no_more_workers_than_the_quota_by_default(monkeypatch):
    """A container with two of 64 cores gets two workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: 2)
    assert available_cores() == worker_count(0, 100) == 2


def test_no_more_workers_than_the_cores_that_we_are_bound_to(monkeypatch):
    """``taskset`` and Slurm bind a process to some of the machine's cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    monkeypatch.setattr(threads, "cpu_quota", lambda: 8)
    assert available_cores() == worker_count(0, 100) == 1


def test_the_environment_may_say_otherwise(monkeypatch):
    """A spin count that somebody set stays."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    threads.wait_quietly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def after(code):
    """What ``GOMP_SPINCOUNT`` is, and whether torch was imported, after ``code`` in a process of its own."""
    tell = "\nimport os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run([sys.executable, "-c", code + tell], env=environment, capture_output=True, text=True)
    return done.stdout.split(), done.stderr


INFER = """
from positronic import compose
from positronic.errors import PositronicError
from positronic.stages import infer
try:
    infer.run(compose(["stage=infer", "policy=local", "policy.checkpoints_dir=/nowhere", "output_dir=rollouts"]))
except PositronicError as error:
    assert "/nowhere" in str(error)
"""
WORKER = """
from pathlib import Path
from positronic.serving.litserve_host import _Worker
from positronic.serving.settings import ServerSettings
_Worker(ServerSettings(Path("."), device="cpu", loader="builtins:print"), "1", "inproc://x").setup("cpu")
"""


@pytest.mark.parametrize("code", [INFER, WORKER], ids=["infer", "the server's worker"])
def test_whoever_computes_waits_quietly(code, monkeypatch, tmp_path):
    """Said before torch is imported, which reads it once."""
    monkeypatch.chdir(tmp_path)
    assert after(code)[0] == [threads.SPIN_COUNT, "False"]
