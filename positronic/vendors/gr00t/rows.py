"""A batch split into those rows whose texts are equally long.

GR00T attends to the padding of shorter texts, so that a robot's actions would depend on the texts of the others in its
batch. Among rows of one length there is no padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

TOKENS = ("input_ids", "attention_mask", "mm_token_type_ids")  # (B, L), padded on the left
GRIDS, PATCHES = "image_grid_thw", "pixel_values"  # of all images of all rows: (images, 3) and (patches, D)


def by_length(inputs: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Numbers of rows (n,), and their inputs without padding, for each length of text there is."""
    lengths = inputs["attention_mask"].sum(dim=1)
    for length in lengths.unique().tolist():
        rows = torch.nonzero(lengths == length).flatten()
        yield rows, _of(inputs, rows, length)


def _of(inputs: Mapping[str, Tensor], rows: Tensor, length: int) -> dict[str, Tensor]:
    count = len(inputs["attention_mask"])
    grids = inputs[GRIDS].reshape(count, -1, 3)
    patches = torch.split(inputs[PATCHES], grids.prod(dim=2).sum(dim=1).tolist())
    rest = {name: value[rows] for name, value in inputs.items() if name not in (*TOKENS, GRIDS, PATCHES)}
    tokens = {name: inputs[name][rows, -length:] for name in TOKENS if name in inputs}
    pictures = {GRIDS: grids[rows].flatten(0, 1), PATCHES: torch.cat([patches[row] for row in rows.tolist()])}
    return rest | tokens | pictures
