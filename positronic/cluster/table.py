"""The jobs of a sweep as a table, for people to read in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.cluster.record import CANCELLED, FAILED, FINISHED, KILLED, REQUEUED, RUNNING, WAITING, Sweep
from positronic.cluster.results import Result, varying_keys
from positronic.cluster.states import JobReport
from positronic.storage.uri import is_remote

if TYPE_CHECKING:
    from rich.console import Group

ORDER = (FAILED, KILLED, RUNNING, REQUEUED, WAITING, CANCELLED, FINISHED)  # what matters most comes first
STYLES = {FINISHED: "green", FAILED: "red", KILLED: "red", CANCELLED: "yellow", RUNNING: "cyan", REQUEUED: "yellow"}


def summary(reports: Sequence[JobReport]) -> str:
    """``1 failed, 2 running, 13 finished``, and how many jobs there are."""
    counted = Counter(report.state for report in reports)
    said = ", ".join(f"{counted[state]} {state}" for state in ORDER if counted[state])
    return f"{said or 'no jobs'} ({len(reports)} {'job' if len(reports) == 1 else 'jobs'})"


def sweep_table(sweep: Sweep, results: Sequence[Result]) -> Group:
    """Each job's row, and what those that did not finish said last."""
    from rich.console import Group
    from rich.text import Text

    said = [Text(line) for result in results for line in _failure(result)]
    return Group(jobs_table(sweep, results), *said)


def jobs_table(sweep: Sweep, results: Sequence[Result], most: int | None = None) -> Group:
    """The rows alone; at most ``most``, of which those that matter most now."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    chosen = sorted(results, key=lambda result: ORDER.index(result.report.state))[:most] if most else results
    rows = [cells(sweep, result) for result in chosen]
    varying = varying_keys(results)
    shown = [head for head in HEADS if any(row[head] for row in rows)]
    left_out = f"; {len(results) - len(chosen)} more" if len(chosen) < len(results) else ""
    table = Table()
    for head in ("job", *varying, *shown):
        table.add_column(Text(head), overflow="fold")
    for result, row in zip(chosen, rows, strict=True):
        values = [Text(result.varying.get(key, "")) for key in varying]
        said = [Text(row[head], STYLES.get(result.report.state, "") if head == "state" else "") for head in shown]
        table.add_row(Text(result.name), *values, *said)
    return Group(Text(f"{sweep.name}: {summary([result.report for result in results])}{left_out}"), table)


HEADS = ("state", "steps", "loss", "best", "held out", "success", "time", "GPU h", "checkpoint")


def cells(sweep: Sweep, result: Result) -> dict[str, str]:
    """What each of ``HEADS`` says of a job; empty where there is nothing."""
    report = result.report
    return {
        "state": report.state,
        "steps": steps_text(result),
        "loss": number_text(result.loss.last),
        "best": number_text(result.loss.best),
        "held out": number_text(result.val_loss.best),
        "success": success_text(result),
        "time": duration_text(report.wall_sec) if report.attempts else "",
        "GPU h": f"{report.gpu_hours:.2f}" if report.gpu_hours else "",
        "checkpoint": shortened(sweep, result.checkpoint),
    }


def steps_text(result: Result) -> str:
    """``40/100``."""
    if result.steps is None:
        return "" if result.of_steps is None else f"0/{result.of_steps}"
    return f"{result.steps}" if result.of_steps is None else f"{result.steps}/{result.of_steps}"


def success_text(result: Result) -> str:
    """``98/100 (93-99 %)``, with the 95 % interval."""
    if result.interval_95 is None:
        return ""
    low, high = result.interval_95
    return f"{result.successes}/{result.episodes} ({100 * low:.0f}-{100 * high:.0f} %)"


def number_text(value: float | None) -> str:
    """Four digits."""
    return "" if value is None else f"{value:.4g}"


def duration_text(seconds: float) -> str:
    """``1:02:03`` for hours, ``2:03`` for minutes."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def shortened(sweep: Sweep, place: str | None) -> str:
    """A path within the sweep's folder from there on."""
    if place is None or is_remote(place):
        return place or ""
    root, path = sweep.folder.resolve(), Path(place)
    inside = path.is_absolute() and path.resolve().is_relative_to(root)
    return str(path.resolve().relative_to(root)) if inside else place


def _failure(result: Result) -> Iterator[str]:
    """Why a job did not finish, or what it waits for."""
    report = result.report
    if report.reason:
        yield f"{result.name} {report.state}: {report.reason}"
    elif result.last_lines:
        yield f"{result.name} {report.state}:"
    yield from (f"    {line}" for line in result.last_lines)
