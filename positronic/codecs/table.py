"""A recipe's contract as a table, for people to read before anything moves."""

from __future__ import annotations

from rich.table import Table

from positronic.codecs.build import Recipe


def contract_table(recipe: Recipe, title: str | None = None) -> Table:
    """One row a column of the model: what it is made of, its shape, its convention."""
    codec, modality = recipe.codec, recipe.modality
    timing = codec.timing
    horizon = "whole chunk" if timing.horizon_sec is None else f"first {timing.horizon_sec:g} s of a chunk"
    table = Table(
        title=title or f"codec {codec.name}", caption=f"{timing.fps} steps/s, {horizon}, task as '{modality.task_key}'"
    )
    for heading in ("column", "from signal", "shape", "convention"):
        table.add_column(heading, overflow="fold")
    for column in modality.columns:
        for source in column.sources:
            shape = " x ".join(map(str, source.shape))
            table.add_row(column.name, source.signal, shape, str(source.convention))
    return table
