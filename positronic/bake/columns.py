"""The numbers of a baked dataset, read back: the same for both formats, and without holding all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic.bake import features

DATA_FILES = "data/*/*.parquet"  # in this order, v3.0 (many episodes a file) and v2.1 (one) alike
BLOCK_ROWS = 1 << 16


def column_blocks(root: Path, name: str) -> Iterator[NDArray]:
    """A vector column of the dataset in ``root`` in blocks of rows (T_i, D).

    Blocks do not depend on how the rows lie in files, so that sums over them do not either, to the last bit.
    """
    waiting: list[NDArray] = []
    count = 0
    for path in data_files(root):
        for batch in pq.ParquetFile(path).iter_batches(BLOCK_ROWS, columns=[name]):
            waiting.append(rows_of(batch.column(0)))
            count += len(batch)
            if count >= BLOCK_ROWS:
                rows = np.concatenate(waiting)
                yield rows[:BLOCK_ROWS]
                waiting, count = [rows[BLOCK_ROWS:]], count - BLOCK_ROWS
    if left := [rows for rows in waiting if len(rows)]:
        yield np.concatenate(left)


def episode_columns(root: Path, names: Sequence[str]) -> Iterator[dict[str, NDArray]]:
    """Each episode in order: column -> (T, D)."""
    for path in data_files(root):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):  # the bake writes an episode as one
            table = file.read_row_group(group, columns=[*names, features.EPISODE_INDEX])
            yield {name: rows_of(table.column(name).combine_chunks()) for name in names}


def data_files(root: Path) -> list[Path]:
    """The dataset's parquet files in the order of their rows."""
    return sorted(root.glob(DATA_FILES))


def rows_of(column: pa.Array) -> NDArray:
    """An arrow column as (T, D); one number a row gives D = 1."""
    count = len(column)
    while pa.types.is_nested(column.type):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).reshape(count, -1)
