"""An inspection as tables, for people to read."""

from __future__ import annotations

from itertools import groupby

from rich.console import Group
from rich.table import Table
from rich.text import Text

from positronic.bake.inspection import SHOWN, Inspection
from positronic.bake.report import WRONG


def inspection_table(inspection: Inspection, title: str) -> Group:
    """One row a dimension, the flagged ones coloured, and below what was found."""
    manifest = inspection.manifest
    caption = f"{manifest.episodes} episodes, {manifest.frames} frames at {manifest.fps} fps; images in 0 to 1"
    table = Table(title=Text(title), caption=caption)
    table.add_column("dimension", overflow="fold")
    for heading in SHOWN:
        table.add_column(heading, justify="right", no_wrap=True)
    for column, group in groupby(inspection.dimensions, lambda dimension: dimension.column):
        table.add_section()
        table.add_row(column, style="bold")
        for dimension in group:
            numbers = [f"{dimension.stats[key]:.3g}" if dimension.stats else "-" for key in SHOWN]
            table.add_row(f"  {dimension.name}", *numbers, style=WRONG if inspection.flagged(dimension) else None)
    return Group(table, *_findings(inspection), *_turned(inspection))


def _turned(inspection: Inspection) -> list[Text]:
    frames = inspection.manifest.frames
    return [
        Text(f"{name}: {count} of {frames} samples were turned to one sign, as q and -q are one rotation.")
        for name, count in inspection.turned.items()
        if count
    ]


def _findings(inspection: Inspection) -> list[Text]:
    if not inspection.findings:
        return [Text("Nothing looks wrong.")]
    lines = [f"{f.column}: {', '.join(f.names)}: {f.text}" for f in inspection.findings]
    return [Text(f"{len(lines)} findings:"), *(Text(f"  {line}", style=WRONG) for line in lines)]
