"""An inspection as tables, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from positronic.bake.inspection import SHOWN, Dimension, Inspection
from positronic.utils.bullets import WRONG, bullets

NAME_WIDTH, NUMBER_WIDTH = 19, 9  # six numbers and the spaces between fill 80 characters


def inspection_table(inspection: Inspection, title: str) -> Group:
    """One row per dimension under the name of its column, and below them what was found. Wrong rows are coloured."""
    manifest = inspection.manifest
    caption = f"{manifest.episodes} episodes, {manifest.frames} frames at {manifest.fps} fps; images in 0 to 1"
    header = _rows()
    header.add_row("dimension", *SHOWN, style="bold")
    parts: list[RenderableType] = [Text(title), Text(caption), Text(), header]
    for column, group in groupby(inspection.dimensions, lambda dimension: dimension.column):
        parts += [Text(column, style="bold"), _block(inspection, list(group))]
    return Group(*parts, Text(), *_findings(inspection), *_turned(inspection))


def _block(inspection: Inspection, dimensions: Sequence[Dimension]) -> Table:
    """A table of its own, as the name of a column is wider than those of its dimensions."""
    table = _rows()
    for dimension in dimensions:
        numbers = [f"{dimension.stats[key]:.3g}" if dimension.stats else "-" for key in SHOWN]
        table.add_row(f"  {dimension.name}", *numbers, style=WRONG if inspection.flagged(dimension) else None)
    return table


def _rows() -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=NAME_WIDTH, overflow="fold")
    for _ in SHOWN:
        table.add_column(width=NUMBER_WIDTH, justify="right", no_wrap=True)
    return table


def _turned(inspection: Inspection) -> list[Text]:
    frames = inspection.manifest.frames
    return [
        Text(f"{name}: {count} of {frames} samples were turned to one sign, as q and -q are one rotation.")
        for name, count in inspection.turned.items()
        if count
    ]


def _findings(inspection: Inspection) -> list[RenderableType]:
    if not inspection.findings:
        return [Text("Nothing looks wrong.")]
    found = inspection.findings
    return [Text(f"{len(found)} finding{'s' * (len(found) > 1)}:"), bullets(map(str, found), WRONG)]
