"""An inspection as a picture: a small histogram for every dimension and camera."""

from __future__ import annotations

import math
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from positronic.bake.inspection import Dimension, Inspection
from positronic.utils.plotting import BAD, BLUE, FAINT, GOOD, GREEN, INK, RED, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6
INCHES = (2.2, 1.5)  # of one histogram
CHANNEL_COLORS = (RED, GREEN, BLUE)


def inspection_png(inspection: Inspection, title: str) -> bytes:
    """Each dimension in its own frame, the flagged ones red; a camera's three channels together."""
    return png(partial(_figure, inspection=inspection, title=title))


def _figure(figure_type: type[Figure], inspection: Inspection, title: str) -> Figure:
    groups = [
        list(group) for _, group in groupby(inspection.dimensions, lambda d: (d.column, "" if d.is_image else d.name))
    ]
    rows = math.ceil(len(groups) / COLUMNS)
    figure = figure_type(figsize=(COLUMNS * INCHES[0], rows * INCHES[1] + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    frames = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for axes in frames:
        axes.set_axis_off()
    for axes, group in zip(figure.axes, groups, strict=False):
        axes.set_axis_on()
        _draw(axes, group, any(map(inspection.flagged, group)))
    return figure


def _draw(axes: Axes, group: list[Dimension], is_flagged: bool) -> None:
    for dimension, channel_color in zip(group, CHANNEL_COLORS, strict=False):
        if dimension.is_image:
            axes.stairs(dimension.counts, dimension.edges, color=channel_color, alpha=0.8)
            axes.set_ylim(
                0, 1.05 * max(1, *(each.counts[1:].max() for each in group))
            )  # not up to the letterbox's black
        elif dimension.stats:
            axes.stairs(dimension.counts, dimension.edges, color=BAD if is_flagged else GOOD, fill=True, alpha=0.7)
            axes.axvspan(dimension.stats["q01"], dimension.stats["q99"], color=FAINT, alpha=0.15, linewidth=0)
    name = group[0].column if group[0].is_image else f"{group[0].column}\n{group[0].name}"
    axes.set_title(name, fontsize=7, color=BAD if is_flagged else INK)
    axes.set_yticks([])
    axes.tick_params(labelsize=6)
    axes.locator_params(axis="x", nbins=4)
