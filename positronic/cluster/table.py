"""The jobs of a sweep as a table, for people to read in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from positronic.cluster.record import CANCELLED, FAILED, FINISHED, KILLED, REQUEUED, RUNNING, WAITING, Sweep
from positronic.cluster.results import Result, varying_keys
from positronic.cluster.states import JobReport

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.table import Table

ORDER = (FAILED, KILLED, RUNNING, REQUEUED, WAITING, CANCELLED, FINISHED)  # what matters most comes first
HEADS = ("state", "steps", "loss", "best", "held out", "success", "time", "GPU h", "checkpoint")
BY_NEED = ("state", "steps", "success", "held out", "loss", "time", "checkpoint", "best", "GPU h")
AROUND_CELL, MOST_OF_VALUE = 3, 16  # characters
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

    return Group(JobsTable(sweep.name, results), *(Text(line) for result in results for line in _failure(result)))


@dataclass(frozen=True)
class JobsTable:
    """The rows alone, as many columns as there is room for. ``most``: so many rows, those that matter most now."""

    name: str
    results: Sequence[Result]
    most: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """A line that sums up, then the table."""
        from rich.text import Text

        chosen = sorted(self.results, key=_importance)[: self.most] if self.most else self.results
        rows = {result.name: cells(result) for result in chosen}
        told = [head for head in HEADS if any(row[head] for row in rows.values())]
        varying = varying_keys(self.results)
        shown = _that_fit(told, rows.values(), options.max_width - _room_of_values(varying, chosen))
        said = [f"{self.name}: {summary([result.report for result in self.results])}"]
        said += [f"{len(self.results) - len(chosen)} more jobs"] if len(chosen) < len(self.results) else []
        said += [f"no room for: {', '.join(head for head in told if head not in shown)}"] if told != shown else []
        yield Text("; ".join(said))
        yield _table(chosen, rows, varying, shown)


def _table(
    results: Sequence[Result], rows: Mapping[str, Mapping[str, str]], varying: Sequence[str], shown: Sequence[str]
) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for head in ("job", *varying):
        table.add_column(Text(head), overflow="fold")
    for head in shown:
        table.add_column(Text(head), no_wrap=True, justify="left" if head == "state" else "right")
    for result in results:
        row, style = rows[result.name], STYLES.get(result.report.state, "")
        values = [Text(result.varying.get(key, "")) for key in varying]
        said = [Text(row[head], style if head == "state" else "") for head in shown]
        table.add_row(Text(result.name), *values, *said)
    return table


def _that_fit(heads: Sequence[str], rows: Collection[Mapping[str, str]], room: int) -> list[str]:
    """``heads`` within ``room`` characters, in their order; the state always."""
    width = {head: AROUND_CELL + max(len(head), *(len(row[head]) for row in rows)) for head in heads}
    kept: set[str] = set()
    for head in filter(width.__contains__, BY_NEED):
        if not kept or sum(width[each] for each in (*kept, head)) <= room:
            kept.add(head)
    return [head for head in heads if head in kept]


def _room_of_values(varying: Sequence[str], results: Sequence[Result]) -> int:
    """Characters of the job's name and of what varies, of which long ones are folded."""
    texts = {"job": [result.name for result in results]}
    texts |= {key: [result.varying.get(key, "") for result in results] for key in varying}
    widths = (max(len(head), *(len(text) for text in column)) for head, column in texts.items())
    return 1 + sum(AROUND_CELL + min(width, MOST_OF_VALUE) for width in widths)


def _importance(result: Result) -> int:
    return ORDER.index(result.report.state)


def cells(result: Result) -> dict[str, str]:
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
        "checkpoint": (result.checkpoint or "").rpartition("/")[2],
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


def _failure(result: Result) -> Iterator[str]:
    """Why a job did not finish, or what it waits for."""
    report = result.report
    if report.reason:
        yield f"{result.name} {report.state}: {report.reason}"
    elif result.last_lines:
        yield f"{result.name} {report.state}:"
    yield from (f"    {line}" for line in result.last_lines)
