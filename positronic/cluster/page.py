"""sweep.html: the table of a sweep as one file that a browser opens without a server."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from string import Template

from positronic.cluster.record import CANCELLED, FAILED, FINISHED, KILLED, LOG_FILE, Sweep
from positronic.cluster.results import Result, varying_keys
from positronic.cluster.table import HEADS, cells, number_text, success_text, summary
from positronic.rollout.document import document, picture, tile

BODY = Template("""<p class="task">$said</p>
<div class="numbers">$numbers</div>
<h2>What it came to</h2>
$plot
<h2>Jobs</h2>
<div class="wide"><table>$jobs</table></div>
$failures
<h2>Where this comes from</h2>
<pre>$command</pre>
<details><summary>Code</summary><pre>$code</pre></details>
<details><summary>Cluster</summary><pre>$cluster</pre></details>""")
CLASSES = {FINISHED: "success", FAILED: "aborted", KILLED: "aborted", CANCELLED: "aborted"}  # colours of the style


def page_html(sweep: Sweep, results: Sequence[Result], plot_png: bytes | None) -> str:
    """The page, to lie in the sweep's folder: the jobs' logs are linked. ``plot_png``: None where matplotlib is not
    installed."""
    said = summary([result.report for result in results])
    code = {"commit": sweep.commit, "dirty": sweep.dirty, "snapshot": sweep.snapshot}
    body = BODY.substitute(
        said=html.escape(f"{sweep.created} · {said}"),
        numbers="".join(_tiles(results)),
        plot=picture(plot_png, said) if plot_png else "",
        jobs=_jobs(sweep, results),
        failures=_failures(results),
        command=html.escape(sweep.command),
        code=html.escape(json.dumps(code, indent=1)),
        cluster=html.escape(json.dumps(dict(sweep.cluster), indent=1, default=str)),
    )
    return document(sweep.name, body)


def _tiles(results: Sequence[Result]) -> Iterator[str]:
    finished = sum(result.report.state == FINISHED for result in results)
    yield tile(f"{finished}/{len(results)}", "jobs finished")
    evaluated = [result for result in results if result.success_rate is not None]
    if evaluated:
        best = max(evaluated, key=lambda result: result.success_rate or 0)
        yield tile(success_text(best).partition(" ")[0], f"most successes: job {best.name}")
    for name, values in (
        ("held-out loss", [(result.val_loss.best, result.name) for result in results]),
        ("loss", [(result.loss.best, result.name) for result in results]),
    ):
        known = [(value, job) for value, job in values if value is not None]
        if known:
            value, job = min(known)
            yield tile(number_text(value), f"lowest {name}: job {job}")
    hours = sum(result.report.wall_sec for result in results) / 3600
    yield tile(f"{hours:.2f} h", "of all jobs together")
    gpu_hours = sum(result.report.gpu_hours for result in results)
    if gpu_hours:
        yield tile(f"{gpu_hours:.2f}", "GPU hours")


def _jobs(sweep: Sweep, results: Sequence[Result]) -> str:
    varying, rows = varying_keys(results), [cells(result) for result in results]
    shown = [head for head in HEADS if any(row[head] for row in rows)]
    lines = ["".join(f"<th>{html.escape(head)}</th>" for head in ("job", *varying, *shown))]
    for result, row in zip(results, rows, strict=True):
        log = f"{result.name}/{LOG_FILE}"
        name = html.escape(result.name)
        linked = f'<a href="{html.escape(log)}">{name}</a>' if (sweep.folder / log).exists() else name
        values = [html.escape(result.varying.get(key, "")) for key in varying]
        said = [_cell(result, head, row[head]) for head in shown]
        lines.append("".join(f"<td>{cell}</td>" for cell in (linked, *values, *said)))
    return "".join(f"<tr>{line}</tr>" for line in lines)


def _cell(result: Result, head: str, text: str) -> str:
    """A state in its colour, with the reason when it is pointed at; of a checkpoint, its path."""
    report = result.report
    if head == "state":
        return f'<span class="{CLASSES.get(report.state, "")}" title="{html.escape(report.reason)}">{text}</span>'
    if head == "checkpoint":
        return f'<span title="{html.escape(result.checkpoint or "")}">{html.escape(text)}</span>'
    return html.escape(text)


def _failures(results: Sequence[Result]) -> str:
    """Why jobs did not finish, and the last lines of their logs."""
    found = []
    for result in results:
        report = result.report
        if report.final and report.state != FINISHED:
            said = f"{result.name} {report.state}" + (f": {report.reason}" if report.reason else "")
            lines = f"<pre>{html.escape(chr(10).join(result.last_lines))}</pre>" if result.last_lines else ""
            found.append(f'<p class="stopped">{html.escape(said)}</p>{lines}')
    return f"<h2>What did not finish</h2>{''.join(found)}" if found else ""
