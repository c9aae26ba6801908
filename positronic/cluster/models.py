"""Several models side by side: what each took, what it came to, and why one of them has no result."""

from __future__ import annotations

import html
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from positronic.cluster.plot import COLOURS
from positronic.cluster.record import CANCELLED, FINISHED
from positronic.cluster.results import Curve
from positronic.cluster.states import JobReport
from positronic.rollout.results import wilson_interval
from positronic.training.checkpoints import PRETRAINED_MODEL, list_checkpoints
from positronic.training.experiment import METRICS_FILE
from positronic.utils.plotting import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

HEADS = ("model", "success", "steps", "loss", "params", "size", "trained", "p50 ms", "p99 ms")
MEANINGS = {
    "success": "with its 95 % interval (Wilson)",
    "loss": "the last one; models define it differently",
    "params": "parameters in the checkpoint",
    "size": "of the checkpoint's weights and settings",
    "trained": "wall time of the training",
    "p50 ms": "latency of an answer, by the client's clock",
}
LENGTH = struct.Struct("<Q")  # of the header at the beginning of a safetensors file


@dataclass(frozen=True)
class Model:
    """What is known of one model.

    ``values``: what makes it another than its neighbours. ``missing``: why there is no evaluation; None if there is
    one. ``steps``: trained. ``parameters``, ``size_bytes``: of its last checkpoint. ``train_sec``: wall time.
    ``latency_ms``: "p50" and "p99" of an answer, by the client's clock. ``successes`` of ``episodes``.
    """

    name: str
    values: Sequence[str] = ()
    missing: str | None = None
    loss: Curve = field(default_factory=Curve)
    steps: int | None = None
    parameters: int | None = None
    size_bytes: int | None = None
    train_sec: float | None = None
    latency_ms: Mapping[str, float] | None = None
    successes: int | None = None
    episodes: int | None = None

    @property
    def cells(self) -> list[str]:
        """As texts, in the order of ``HEADS``."""
        latency = self.latency_ms or {}
        return [
            self.name,
            self._success(),
            "" if self.steps is None else str(self.steps),
            "" if self.loss.last is None else f"{self.loss.last:.4g}",
            "" if self.parameters is None else _short(self.parameters),
            "" if self.size_bytes is None else f"{self.size_bytes / 1e6:.1f} MB",
            "" if self.train_sec is None else _duration(self.train_sec),
            *(f"{latency[name]:.1f}" if name in latency else "" for name in ("p50", "p99")),
        ]

    def _success(self) -> str:
        if self.episodes is None or self.successes is None or self.episodes == 0:
            return "-"
        low, high = wilson_interval(self.successes, self.episodes)
        return f"{self.successes}/{self.episodes} ({100 * low:.0f}-{100 * high:.0f} %)"


def read_model(name: str, values: Sequence[str], experiment: Path, rollouts: Path) -> Model:
    """What the stages have left in these folders."""
    model = Model(name, tuple(values), missing="It was not evaluated.")
    rows = _metrics(experiment / METRICS_FILE)
    if rows:
        losses = [row for row in rows if math.isfinite(row.get("loss", math.nan))]
        curve = Curve([row["step"] for row in losses], [row["loss"] for row in losses])
        model = replace(model, loss=curve, steps=rows[-1]["step"])
    checkpoints = list_checkpoints(experiment) if experiment.exists() else []
    if checkpoints:
        weights = checkpoints[-1].path / PRETRAINED_MODEL
        files = [path for path in weights.rglob("*") if path.is_file()]
        parameters = sum(map(_parameters, (path for path in files if path.suffix == ".safetensors")))
        model = replace(
            model,
            steps=checkpoints[-1].step,
            parameters=parameters or None,
            size_bytes=sum(path.stat().st_size for path in files),
        )
    report = _report(rollouts)
    if report is None:
        return model
    return replace(
        model,
        missing=None,
        latency_ms=report.get("inference_latency_ms"),
        successes=report["successes"],
        episodes=report["n"],
    )


def why_missing(reports: Sequence[JobReport]) -> str | None:
    """Which of a model's jobs did not finish, and what it said last; None if all did."""
    wrong = [report for report in reports if report.state != FINISHED]
    cause = next((report for report in wrong if report.state != CANCELLED), wrong[0] if wrong else None)
    if cause is None:
        return None
    said = [line.strip() for line in cause.last_lines if line.strip()]
    return f"{cause.task.name} {cause.state}: {' '.join(said[-2:]) or cause.reason or 'it said nothing'}"


def models_table(models: Sequence[Model]) -> Table:
    """For a terminal; a model without a result says why."""
    from rich.table import Table

    table = Table(title="models")
    for head in HEADS:
        table.add_column(head, justify="left" if head == "model" else "right", no_wrap=head != "success")
    for model in models:
        table.add_row(*model.cells)
    notes = [f"{model.name}: {model.missing}" for model in models if model.missing]
    if notes:
        table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def models_html(models: Sequence[Model], curves_png: bytes | None) -> str:
    """Part of a page: the table, why a model has no result, and the curves of all losses."""
    from positronic.rollout.document import picture

    return "".join(
        [
            "<h2>Models</h2>",
            f'<div class="wide"><table>{"".join(_rows(models))}</table></div>',
            *(
                f'<p class="stopped">{html.escape(f"{each.name}: {each.missing}")}</p>'
                for each in models
                if each.missing
            ),
            "<h2>Losses while training</h2>" if curves_png else "",
            picture(curves_png, "the loss of each model over its steps") if curves_png else "",
        ]
    )


def _rows(models: Sequence[Model]) -> Iterator[str]:
    heads = "".join(f'<th title="{MEANINGS.get(head, "")}">{head}</th>' for head in [*HEADS, "values"])
    yield f"<tr>{heads}</tr>"
    for model in models:
        cells = [*model.cells, " ".join(model.values)]
        yield f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def curves_png(models: Sequence[Model]) -> bytes | None:
    """The loss of each model over its steps; None if nothing was trained. Raises PositronicError without matplotlib."""
    told = [model for model in models if model.loss.values]
    return png(partial(_curves, models=told)) if told else None


def _curves(figure_type: type[Figure], models: Sequence[Model]) -> Figure:
    figure = figure_type(figsize=(3.2 * len(models) + 1, 3), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False)[0]  # one each: losses of two models cannot be compared
    for panel, model, colour in zip(panels, models, COLOURS * len(models), strict=False):
        panel.plot(model.loss.steps, model.loss.values, color=colour)
        if min(model.loss.values) > 0:
            panel.set_yscale("log")
        panel.set(title=model.name, xlabel="step")
    return figure


def models_dict(models: Sequence[Model]) -> list[dict[str, Any]]:
    """For models.json: sizes in bytes, times in seconds, latencies in milliseconds."""
    return [
        {
            "name": model.name,
            "values": list(model.values),
            "missing": model.missing,
            "steps": model.steps,
            "loss": model.loss.last,
            "parameters": model.parameters,
            "size_bytes": model.size_bytes,
            "train_sec": model.train_sec,
            "latency_ms": model.latency_ms,
            "successes": model.successes,
            "episodes": model.episodes,
        }
        for model in models
    ]


def _metrics(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _parameters(path: Path) -> int:
    """How many numbers a safetensors file holds: its header is JSON that tells each tensor's shape."""
    with path.open("rb") as file:
        (length,) = LENGTH.unpack(file.read(LENGTH.size))
        header = json.loads(file.read(length))
    return sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")


def _report(rollouts: Path) -> dict[str, Any] | None:
    from positronic.rollout.campaign import REPORT_FILE

    try:
        report = json.loads((rollouts / REPORT_FILE).read_text())
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and report.get("n") else None


def _short(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M" if count >= 1e4 else str(count)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
