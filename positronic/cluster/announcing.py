"""What is said of jobs that were just submitted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from positronic.cluster import submission
from positronic.cluster.record import Sweep
from positronic.utils.command_line import RUN


def announcement(sweep: Sweep, names: Sequence[str] | None = None) -> str:
    """Where the jobs are, how to watch them, and how to cancel them."""
    jobs = [job for job in sweep.jobs if names is None or job.task.name in names]
    ids = [job.job_id for job in jobs if job.job_id]
    where = f" to SLURM: {_shortened(ids)}" if ids else " on this machine"
    lines = [
        f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}{where}",
        f"  folder:  {sweep.folder}",
        f"  watch:   {RUN} stage=sweep sweep={shlex.quote(str(sweep.folder))}",
    ]
    cancel = submission.how_to_cancel(sweep)
    if cancel is not None:
        lines.append(f"  cancel:  {cancel}")
    return "\n".join(lines)


def _shortened(ids: Sequence[str]) -> str:
    return ", ".join(ids) if len(ids) <= 4 else f"{ids[0]} ... {ids[-1]}"
