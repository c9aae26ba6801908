"""sweep.csv, sweep.png and sweep.html in the folder of a sweep: what is known of its jobs, for programs and people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from positronic.cluster.page import page_html
from positronic.cluster.plot import sweep_png
from positronic.cluster.record import Sweep
from positronic.cluster.results import Result, varying_keys
from positronic.errors import PositronicError
from positronic.utils.files import replace_bytes, replace_text

CSV_FILE, PLOT_FILE, PAGE_FILE = "sweep.csv", "sweep.png", "sweep.html"
COLUMNS = (
    "job",
    "job_id",
    "state",
    "reason",
    "steps",
    "of_steps",
    "loss",
    "best_loss",
    "val_loss",
    "successes",
    "episodes",
    "success_rate",
    "interval_low",
    "interval_high",
    "attempts",
    "wall_sec",
    "gpu_hours",
    "checkpoint",
    "folder",
    "last_lines",
)


def write_files(sweep: Sweep, results: Sequence[Result]) -> list[Path]:
    """Replace the three files, each in one step, and say where they are. Without matplotlib there is no picture.

    Raises PositronicError when the folder cannot be written.
    """
    table, plot, page = (sweep.folder / name for name in (CSV_FILE, PLOT_FILE, PAGE_FILE))
    try:
        picture: bytes | None = sweep_png(results)
    except PositronicError:  # it is not installed
        picture = None
    try:
        replace_text(table, csv_text(results))
        if picture is not None:
            replace_bytes(plot, picture)
        replace_text(page, page_html(sweep, results, picture))
    except OSError as error:
        raise PositronicError(
            f"{sweep.folder}: the table's files could not be written: {error.strerror or error}."
        ) from None
    return [table, *([plot] if picture is not None else []), page]


def csv_text(results: Sequence[Result]) -> str:
    """One row per job: what differs between them, under its own name, then ``COLUMNS``. Empty where nothing is known.

    Rates are 0..1, the interval is Wilson's of 95 %; ``wall_sec`` is of all attempts together.
    """
    varying, text = varying_keys(results), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([COLUMNS[0], *varying, *COLUMNS[1:]])
    for result in results:
        job, *rest = _cells(result)
        writer.writerow([job, *(result.varying.get(key, "") for key in varying), *rest])
    return text.getvalue()


def _cells(result: Result) -> Iterator[object]:
    """In the order of ``COLUMNS``; csv writes None as nothing."""
    report, (low, high) = result.report, result.interval_95 or (None, None)
    yield from (result.name, report.job_id, report.state, report.reason, result.steps, result.of_steps)
    yield from (result.loss.last, result.loss.best, result.val_loss.best)
    yield from (result.successes, result.episodes, result.success_rate, low, high)
    yield from (len(report.attempts), round(report.wall_sec, 1), round(report.gpu_hours, 4))
    yield from (result.checkpoint, str(report.folder), "\n".join(result.last_lines))
