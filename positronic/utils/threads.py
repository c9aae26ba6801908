"""How torch's threads share a machine."""

from __future__ import annotations

import os

SPIN_COUNT = "1000"


def wait_quietly() -> None:
    """Let OpenMP threads sleep soon when they have nothing to do, unless the environment says otherwise.

    They spin by default. On a machine whose cores are shared (a simulator, another job, a small cloud machine) that
    makes a training step take three to five times as long: a thread spins on the core that the other one waits for.
    Must be called before torch is imported.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
