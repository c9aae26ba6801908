"""The contract as a table keeps to a terminal of 80 characters."""

import io

import pytest
from rich.console import Console

import positronic
from positronic.codecs.build import build
from positronic.codecs.table import contract_table


@pytest.mark.parametrize(("vendor", "codec"), [("lerobot", "ee"), ("gr00t", "ee_rot6d_joints"), ("openpi", "droid")])
def test_names_are_whole_at_80_characters(vendor, codec):
    """Each column and each signal stands on a line of its own, uncut."""
    config = positronic.compose(["stage=infer", f"vendor={vendor}", f"codec={codec}"])
    recipe = build(config.codec, config.modality)
    console = Console(width=80, file=io.StringIO())
    console.print(contract_table(recipe))
    cells = {line.strip("│").partition("│")[0].strip() for line in console.file.getvalue().splitlines()}
    names = {column.name for column in recipe.modality.columns}
    assert names | {source.signal for column in recipe.modality.columns for source in column.sources} <= cells
