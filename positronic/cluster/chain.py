"""Commands that need each other, as jobs: on a cluster, side by side here, or one after another with their output."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from positronic.cluster import submission, watch
from positronic.cluster.announcing import announcement
from positronic.cluster.config import LOCAL, ClusterConfig, LocalParallelConfig, SweepConfig
from positronic.cluster.record import Sweep, Task
from positronic.cluster.states import JobReport, states_of
from positronic.utils.command_line import RUN


def run_tasks(
    tasks: Sequence[Task],
    cluster: ClusterConfig | None,
    sweep: SweepConfig,
    name: str,
    note: Callable[[Path], object] = lambda folder: None,
) -> tuple[Sweep, list[JobReport] | None]:
    """Run ``tasks``, and say what became of each; None if nobody waits for them.

    ``cluster``: None runs one after another, and prints what they print. ``name``: of the sweep, if it has none.
    ``note``: is told the sweep's folder as soon as its jobs are submitted.
    Raises PositronicError when they cannot be submitted.
    """
    alone = cluster is None
    where = LocalParallelConfig(name=LOCAL, num_parallel=1) if cluster is None else cluster
    submission.check(tasks, where)
    name = sweep.name or name
    folder = submission.new_sweep_folder(name)
    try:
        submitted = submission.submit(tasks, where, folder, name, " ".join([RUN, *map(shlex.quote, sys.argv[1:])]))
    except BaseException:
        submission.remove_empty(folder)
        raise
    note(submitted.folder)
    print(announcement(submitted), flush=True)
    if submission.is_here(submitted):
        submission.run_here(submitted, wait=alone or sweep.wait, show=alone)
        return submitted, states_of(submitted) if alone or sweep.wait else None
    return submitted, watch.wait(submitted) if sweep.wait else None
