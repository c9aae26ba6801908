"""The picture of a run: its loss, the held-out loss beside it, and the learning rate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.errors import PositronicError
from positronic.training.checkpoints import VAL_LOSS
from positronic.utils.files import replace_bytes
from positronic.utils.plotting import BLUE, FAINT, GREEN, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT_FILE = "loss.png"


def write_plot(metrics: Path) -> None:
    """Draw what ``metrics``, of a run tells into a picture beside it; without matplotlib there is none."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    if not rows:
        return
    try:
        picture = png(partial(figure, rows=rows))
    except PositronicError:  # it is not installed
        return
    replace_bytes(metrics.with_name(PLOT_FILE), picture)


def figure(figure_type: type[Figure], rows: Sequence[Mapping[str, float]]) -> Figure:
    """``rows``: of metrics.jsonl."""
    made = figure_type(figsize=(8, 4), layout="constrained")
    axes = made.subplots()
    for name, color in (("loss", BLUE), (VAL_LOSS, GREEN)):
        told = [row for row in rows if name in row]
        marker = "o" if name == VAL_LOSS else None
        if told:
            values = [row[name] for row in told]
            axes.plot([row["step"] for row in told], values, color=color, marker=marker, markersize=4, label=name)
    if all(row["loss"] > 0 for row in rows):
        axes.set_yscale("log")
    axes.set(title=" and ".join(axes.get_legend_handles_labels()[1]), xlabel="step")
    rate = axes.twinx()
    told = [row for row in rows if "lr" in row]  # openpi's own code tells none
    rate.plot([row["step"] for row in told], [row["lr"] for row in told], color=FAINT, linewidth=0.8)
    rate.set_ylabel("learning rate")
    axes.legend()
    return made
