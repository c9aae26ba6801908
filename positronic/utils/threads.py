"""How many cores we may use, and how torch's threads share them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from positronic.utils.cgroups import CGROUPS, MEMBERSHIP, folders

SPIN_COUNT = "3000"
UNLIMITED = 1 << 30


def available_cores() -> int:
    """Cores that this process may use: those that it may run on, but not more than its container's quota,
    rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, cpu_quota()))


def cpu_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """The smallest quota, in whole cores, of this process's cgroup and those around it; UNLIMITED without any.

    Both versions of cgroups: ``cpu.max`` holds quota and period, or ``max``; version 1 has a file for each.
    """
    return min(
        (quota for folder in folders("cpu", cgroups, membership) for quota in _quotas(folder)), default=UNLIMITED
    )


def wait_quietly() -> None:
    """Let OpenMP threads sleep soon when they have nothing to do, unless the environment says otherwise.

    By default they spin. If the cores are shared (a simulator, another job, a small cloud machine), a training step
    then takes three to five times as long, and an answer costs four times the CPU, because a thread spins on the core
    that the other one waits for. This must be called before torch is imported.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def _quotas(folder: Path) -> Iterator[int]:
    for texts in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = map(int, " ".join((folder / name).read_text() for name in texts).split())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if quota > 0 and period > 0:  # version 1 says -1 for none
            yield math.ceil(quota / period)
