"""Cores and threads."""

import os
import subprocess
import sys

import pytest

from positronic.utils import threads


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 2), ("max 100000", 8), ("800000 100000", 8), ("1 100000", 1)]
)
def test_a_containers_quota_counts(monkeypatch, tmp_path, quota, cores):
    """One and a half cores of quota are two threads, no quota is what the machine has."""
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(threads, "CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert threads.available_cores() == cores


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
from positronic.serving.litserve_host import WorkerSettings, _Worker
from positronic.serving.policy import Typed
_Worker(WorkerSettings("inproc://x", Path("."), "1", "cpu", "builtins:print", Typed())).setup("cpu")
"""


@pytest.mark.parametrize("code", [INFER, WORKER], ids=["infer", "the server's worker"])
def test_whoever_computes_waits_quietly(code, monkeypatch, tmp_path):
    """Said before torch is imported, which reads it once."""
    monkeypatch.chdir(tmp_path)
    assert after(code)[0] == [threads.SPIN_COUNT, "False"]
