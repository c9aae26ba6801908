"""Cores and threads."""

import os

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
