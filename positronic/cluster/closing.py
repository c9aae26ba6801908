"""What is said of a sweep in the end: its table, where the files are, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.cluster.files import write_files
from positronic.cluster.record import FINISHED, Sweep
from positronic.cluster.results import Result, results_of, varying_keys
from positronic.cluster.states import JobReport
from positronic.cluster.table import sweep_table
from positronic.errors import PositronicError
from positronic.storage.uri import is_remote
from positronic.utils.command_line import command

if TYPE_CHECKING:
    from rich.console import Console

# Values with which a loss means something else: there is no best one among them.
OTHER_LOSS = ("vendor", "codec", "modality", "dataset", "input_path", "embodiment", "vendor.policy", "vendor.backend")


def close(sweep: Sweep, reports: Sequence[JobReport], console: Console | None = None) -> list[Result]:
    """Print the table, write sweep.csv, sweep.png and sweep.html, and say what to type next. Gives the rows.

    A folder that cannot be written, as on a machine that only reads it, is said and is no error.
    """
    from rich.console import Console

    console = console or Console()
    results = results_of(sweep, reports)
    console.print(sweep_table(sweep, results), highlight=False)
    try:
        said = [f"  page:     {write_files(sweep, results)[-1]}"]
    except PositronicError as error:
        said = [str(error)]
    for line in (*said, *_next_lines(sweep, results)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return results


def best_of(results: Sequence[Result]) -> Result | None:
    """The trained job with the lowest held-out loss, else with the lowest loss; None where losses of different kinds
    would be compared, and without a checkpoint."""
    trained = [result for result in results if result.checkpoint is not None]
    if any(key == other or key.startswith(f"{other}.") for key in varying_keys(results) for other in OTHER_LOSS):
        return trained[0] if len(trained) == 1 else None
    judged = [result for result in trained if result.val_loss.best is not None]
    return min(judged or trained, key=lambda result: _rank(result, bool(judged)), default=None)


def _rank(result: Result, judged: bool) -> float:
    value = result.val_loss.best if judged else result.loss.best
    return float("inf") if value is None else value


def _next_lines(sweep: Sweep, results: Sequence[Result]) -> Iterator[str]:
    if any(not result.report.final for result in results):
        yield f"  watch:    {command('sweep', {'sweep': str(sweep.folder), 'watch': 'true'})}"
    if any(result.report.final and result.report.state != FINISHED for result in results):
        yield f"  again:    {command('sweep', {'sweep': str(sweep.folder), 'resubmit': 'failed'})}"
    best = best_of(results)
    if best is not None and best.place is not None and best.checkpoint is not None:
        place, checkpoint = _from_here(best.place), best.checkpoint.rpartition("/")[2]
        local = {"policy": "local", "policy.checkpoints_dir": place, "policy.checkpoint": checkpoint}
        yield f"  evaluate: {command('infer', local)}"
        yield f"  serve:    {command('serve', {'checkpoints_dir': place, 'checkpoint': checkpoint})}"


def _from_here(place: str) -> str:
    """Shorter, if it is below the working folder."""
    here = Path.cwd()
    inside = not is_remote(place) and Path(place).is_relative_to(here)
    return str(Path(place).relative_to(here)) if inside else place
