"""A recipe's contract as a table that people read before anything moves."""

from __future__ import annotations

from rich.table import Table

from positronic.codecs.build import Recipe
from positronic.codecs.codec import Codec


def contract_table(recipe: Recipe, title: str | None = None) -> Table:
    """The columns of the model; below each the signals that it is made of, with shape and convention.

    It keeps to 80 characters: names stay whole, and conventions wrap between words.
    """
    codec, modality = recipe.codec, recipe.modality
    timing = codec.timing
    horizon = "whole chunk" if timing.horizon_sec is None else f"first {timing.horizon_sec:g} s of a chunk"
    table = Table(
        title=title or f"codec {codec.name}", caption=f"{timing.fps} steps/s, {horizon}, task as '{modality.task_key}'"
    )
    table.add_column("column, and signals in it", overflow="fold", no_wrap=True)
    for heading in ("shape", "convention"):
        table.add_column(heading, overflow="fold")
    for column in modality.columns:
        table.add_section()
        table.add_row(column.name, style="bold")
        for source in column.sources:
            shape = " x ".join(map(str, source.shape))
            table.add_row(f"  {source.signal}", shape, str(source.convention).replace(",", ", "))
    return table


def codec_table(codec: Codec) -> Table:
    """The canonical features, whatever a vendor makes of them; below 80 characters as the contract."""
    table = Table(title=f"codec {codec.name}")
    for heading in ("feature", "signal", "shape", "convention"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "feature")
    for name, feature in codec.features.items():
        shape = " x ".join(map(str, feature.shape))
        table.add_row(name, feature.signal, shape, str(feature.convention).replace(",", ", "))
    return table
