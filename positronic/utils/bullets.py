"""Sentences as a list for people to read."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

WRONG = "yellow"  # the style of what looks wrong, wherever it is shown


def bullets(lines: Iterable[str], style: str = "") -> Table:
    """One item per line; a line that wraps continues under its own beginning."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("  -", Text(line), style=style)
    return table
