"""stage=sweep: how far the jobs of a sweep are, what they came to, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from positronic.stages.base import Parts
from positronic.utils.fields import path
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Group

    from positronic.cluster import record
    from positronic.cluster.results import Result


@dataclass
class Sweep(Parts):
    """The table of a sweep, at any time and from any machine that sees its folder.

    sweep: the sweep's folder, multirun/<date>/<time>_<name>; last is the newest one in multirun/
    watch: go on until all jobs have ended; Ctrl-C ends only the watching
    resubmit: jobs to run again, from their last checkpoint: failed is every one that did not finish; else [3,7]
    """

    sweep: str = path("last")
    watch: bool = False
    resubmit: Any = None


@dataclass(frozen=True)
class Swept:
    """The result of stage=sweep. ``path``: of sweep.csv, sweep.png and sweep.html. ``results``: a row for each job.
    ``sweep``: what was submitted."""

    path: str
    results: Sequence[Result]
    sweep: record.Sweep

    def __rich__(self) -> Group:
        """The table."""
        from positronic.cluster.table import sweep_table

        return sweep_table(self.sweep, self.results)

    def _repr_html_(self) -> str:
        return as_html(self)


def run(config: Sweep) -> Swept:
    """Print the table, write it into the sweep's folder, and say what to type next.

    Raises PositronicError for a folder that is no sweep, or that cannot be read, and for jobs that cannot be run again.
    """
    from positronic.cluster.closing import close
    from positronic.cluster.find import find_sweep
    from positronic.cluster.record import read_sweep
    from positronic.cluster.states import states_of
    from positronic.cluster.watch import wait

    sweep = read_sweep(find_sweep(config.sweep))
    if config.resubmit is not None:
        sweep = _again(sweep, config.resubmit)
    results = close(sweep, wait(sweep) if config.watch else states_of(sweep))
    return Swept(str(sweep.folder), results, sweep)


def _again(sweep: record.Sweep, resubmit: Any) -> record.Sweep:
    """Submit jobs again. Those of this machine run on their own, so that Ctrl-C ends only the watching."""
    from positronic.cluster import submission
    from positronic.cluster.record import WAITING, read_job

    listed = resubmit if isinstance(resubmit, list) else [resubmit]
    names = submission.FAILED_ONES if listed == [submission.FAILED_ONES] else [str(each) for each in listed]
    sweep = submission.resubmit(sweep, names)
    states = {job.task.name: read_job(sweep.folder_of(job.task)) for job in sweep.jobs}
    waiting = [name for name, state in states.items() if state is not None and state.state == WAITING]
    print(f"Submitted again: {', '.join(waiting)}.", flush=True)
    if submission.is_here(sweep):
        submission.run_here(sweep, waiting, wait=False)
    return sweep
