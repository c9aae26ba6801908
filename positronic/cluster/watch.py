"""Wait for the jobs of a sweep, and show meanwhile how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from positronic.cluster.record import REQUEUED, WAITING, Sweep
from positronic.cluster.results import results_of
from positronic.cluster.states import JobReport, states_of
from positronic.cluster.table import JobsTable, summary
from positronic.utils.command_line import command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

FIRST_SEC, GROWTH = 0.5, 1.3  # between two looks, and how much longer each time
LONGEST_SEC = 10.0  # for a scheduler that others use too
LONGEST_LOCAL_SEC = 2.0  # only files are read
PATIENCE_SEC = 300.0  # how long nobody may know anything of any job that has not ended
AROUND_TABLE = 8  # lines of a terminal


def wait(
    sweep: Sweep,
    console: Console | None = None,
    look: Callable[[Sweep], list[JobReport]] = states_of,
    patience_sec: float = PATIENCE_SEC,
) -> list[JobReport]:
    """Show the jobs until all have ended, or nothing of those that have not is known for ``patience_sec``; then what
    is known of each.

    A job that waits in SLURM's queue is waited for, however long; one that only a person can make begin is not.
    Ctrl-C says how to go on watching and how to cancel, and is raised again; the jobs do not notice it.
    """
    from rich.console import Console

    console = console or Console()
    view: _Lines | _Table = _Table(console) if console.is_terminal else _Lines(console)
    try:
        with view.open():
            return _watched(sweep, view, look, patience_sec)
    except KeyboardInterrupt:
        console.print(how_to_go_on(sweep), markup=False, highlight=False, soft_wrap=True)
        raise


def how_to_go_on(sweep: Sweep) -> str:
    """What to type to watch a sweep again, and to end it."""
    watch = command("sweep", {"sweep": str(sweep.folder), "watch": "true"})
    ids = sorted({job.job_id.partition("_")[0] for job in sweep.jobs if job.job_id})
    end = f"\n  to end them:    scancel {' '.join(ids)}" if ids else ""
    return f"The jobs of {sweep.folder} go on without this terminal.\n  to watch again: {watch}{end}"


def _watched(
    sweep: Sweep, view: _Lines | _Table, look: Callable[[Sweep], list[JobReport]], patience_sec: float
) -> list[JobReport]:
    pause, before, changed_at = FIRST_SEC, list[tuple[str, str]](), time.monotonic()
    longest = LONGEST_SEC if any(job.job_id for job in sweep.jobs) else LONGEST_LOCAL_SEC
    while True:
        reports = look(sweep)
        view.show(sweep, reports)
        now = [(report.state, report.reason) for report in reports]
        changed_at = time.monotonic() if now != before or _any_progress(reports) else changed_at
        before = now
        if all(report.final for report in reports):
            return reports
        if time.monotonic() - changed_at > patience_sec:
            view.say(_nothing_known(reports, patience_sec))
            return reports
        time.sleep(pause)
        pause = min(longest, pause * GROWTH)


def _any_progress(reports: Sequence[JobReport]) -> bool:
    """Whether a job is there of its own accord: it runs, or waits for something that comes."""
    return any(report.seen and not report.stuck for report in reports if not report.final)


def _nothing_known(reports: Sequence[JobReport], patience_sec: float) -> str:
    left = sum(not report.final for report in reports)
    said = "1 job has" if left == 1 else f"{left} jobs have"
    return f"{said} not ended, and nothing has changed for {patience_sec / 60:.0f} min: watching ends here."


class _Lines:
    """A line for each change, where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, str] = {}
        self._reasons = set[str]()  # for waiting, each said once

    def open(self) -> AbstractContextManager[object]:
        return nullcontext()

    def show(self, sweep: Sweep, reports: Sequence[JobReport]) -> None:
        changed = [report for report in reports if self._states.get(report.task.name, WAITING) != report.state]
        for report in changed:
            reason = f" ({report.reason})" if report.reason and report.state != WAITING else ""
            self.say(f"{report.task.name}: {report.state}{reason}{_which(report)}")
        if changed or not self._states:
            self.say(summary(reports))
        self._states = {report.task.name: report.state for report in reports}
        for report in reports:
            if report.state in (WAITING, REQUEUED) and report.reason and report.reason not in self._reasons:
                self._reasons.add(report.reason)
                self.say(f"{report.task.name} {report.reason}")

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Table:
    """The jobs that matter most now, as a table that stays in its place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def open(self) -> AbstractContextManager[object]:
        from rich.live import Live

        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        return self._live

    def show(self, sweep: Sweep, reports: Sequence[JobReport]) -> None:
        assert self._live is not None, "open() comes first"
        most = max(1, self._console.height - AROUND_TABLE)
        self._live.update(JobsTable(sweep.name, results_of(sweep, reports, remote=False), most), refresh=True)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _which(report: JobReport) -> str:
    """What makes this job another than its neighbours."""
    varying = ", ".join(f"{key}={value}" for key, value in report.task.varying.items())
    return f"  {varying}" if varying else ""
