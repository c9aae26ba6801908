"""How many cores there are for us, and how torch's threads share them."""

from __future__ import annotations

import math
import os
from pathlib import Path

SPIN_COUNT = "3000"
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Cores that this process may use: those it may run on, and no more than its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota()))


def wait_quietly() -> None:
    """Let OpenMP threads sleep soon when they have nothing to do, unless the environment says otherwise.

    They spin by default. On a machine whose cores are shared (a simulator, another job, a small cloud machine) that
    makes a training step take three to five times as long, and an answer cost four times the CPU: a thread spins on the
    core that the other one waits for.
    Must be called before torch is imported.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def _quota() -> int:
    """The container's share in whole cores; a very large number when there is none."""
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no cgroup, or "max"
        return 1 << 30
