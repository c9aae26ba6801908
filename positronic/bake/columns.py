"""The numbers of a baked dataset, read back. Both formats give the same, and not all of it is in memory at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic.bake import features
from positronic.bake.reading import reading

DATA_FILES = "data/*/*.parquet"  # in this order, v3.0 (many episodes a file) and v2.1 (one) alike
BLOCK_ROWS = 1 << 16


def episode_columns(root: Path, names: Sequence[str]) -> Iterator[dict[str, NDArray]]:
    """Each episode in order: column -> (T, D)."""
    for path in data_files(root):
        with reading(path), pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):  # of whole episodes, as the bake writes them
                table = file.read_row_group(group, columns=[*names, features.EPISODE_INDEX])
                columns = {name: rows_of(table.column(name).combine_chunks()) for name in names}
                begins = np.flatnonzero(np.diff(table.column(features.EPISODE_INDEX).to_numpy())) + 1
                for start, end in pairwise([0, *begins.tolist(), len(table)]):
                    yield {name: rows[start:end] for name, rows in columns.items()}


class Spool:
    """Columns in memory-mapped files: (N, D) by name, one episode after another. See ``spooled``."""

    def __init__(self, columns: dict[str, NDArray], lengths: Sequence[int]) -> None:
        self._columns, self._ends = columns, np.cumsum(lengths)

    def blocks(self, name: str) -> Iterator[NDArray]:
        """A column in blocks of rows (T_i, D).

        The blocks do not depend on how the rows are divided among files, so sums over them do not either, to the last
        bit.
        """
        column = self._columns[name]
        return (column[first : first + BLOCK_ROWS] for first in range(0, len(column), BLOCK_ROWS))

    def episodes(self) -> Iterator[dict[str, NDArray]]:
        """What ``episode_columns`` gives."""
        for start, end in zip([0, *self._ends[:-1]], self._ends, strict=True):
            yield {name: column[start:end] for name, column in self._columns.items()}


@contextmanager
def spooled(root: Path, names: Sequence[str], leave_out: Collection[int] = ()) -> Iterator[Spool]:
    """The columns, for work that reads them many times: a dataset may be a hundred thousand files, and opening one
    costs as much as reading it. ``leave_out``: indices of episodes that are not wanted.

    The temporary files are in the dataset's folder, if it can be written to.
    """
    lengths: list[int] = []
    with ExitStack() as stack:
        place = root if os.access(root, os.W_OK) else None  # /tmp may be small, or in memory
        files = {name: stack.enter_context(tempfile.TemporaryFile(dir=place)) for name in names}
        kinds: dict[str, tuple[np.dtype, int]] = {}
        for index, columns in enumerate(episode_columns(root, names)):
            if index in leave_out:
                continue
            lengths.append(len(columns[names[0]]))
            for name, rows in columns.items():
                files[name].write(np.ascontiguousarray(rows).data)
                kinds[name] = rows.dtype, rows.shape[1]
        shapes = {name: (sum(lengths), size) for name, (_, size) in kinds.items()}
        for file in files.values():
            file.flush()
        yield Spool({name: np.memmap(files[name], kinds[name][0], "r", 0, shapes[name]) for name in names}, lengths)


def data_files(root: Path) -> list[Path]:
    """The dataset's parquet files in the order of their rows."""
    return sorted(root.glob(DATA_FILES))


def rows_of(column: pa.Array) -> NDArray:
    """An arrow column as (T, D); one number a row gives D = 1."""
    count = len(column)
    while pa.types.is_nested(column.type):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).reshape(count, -1)
