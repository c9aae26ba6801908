"""Files of a baked dataset. Whatever is wrong with one of them is reported with its name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from positronic.errors import PositronicError, listing

AGAIN = "Convert it again."
# What pyarrow, json, numpy and our own checks raise about damaged bytes.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, pa.ArrowException)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises PositronicError, naming ``path``, for what goes wrong while it is read."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise PositronicError(f"{path} is missing, so this is not a whole baked dataset. {AGAIN}") from None
    except DAMAGE as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].removesuffix(".")
        raise PositronicError(f"{path} cannot be read, it is damaged or was cut short ({why}). {AGAIN}") from error


def episode_error(path: Path, episode: int, says: str) -> PositronicError:
    """The error about one episode in one file."""
    return PositronicError(f"{path}, episode {episode}: {says}. {AGAIN}")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises PositronicError when the file holds none."""
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds {type(content).__name__}, expected an object")
    return content


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one per line. The last line must have an end too, because an append would otherwise continue it."""
    with reading(path):
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError(f"line {text.count(chr(10)) + 1} has no end")
        found = []
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(found[-1], dict):
                raise ValueError(f"line {number} is no object")
    return found


def read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Columns of a parquet file. Raises PositronicError when one is missing, or has rows without a value."""
    with reading(path), pq.ParquetFile(path) as file:  # an eighth of read_table's time with many row groups
        found = file.schema_arrow.names
        missing = [name for name in names if name not in found]
        if missing:
            raise PositronicError(f"{path}: expected column '{missing[0]}', found {listing(found)}. {AGAIN}")
        table = file.read(columns=list(dict.fromkeys(names)))
    gaps = [name for name in names if table[name].null_count]
    if gaps:
        raise PositronicError(f"{path}: column '{gaps[0]}' has rows without a value. {AGAIN}")
    return table


def integers(path: Path, table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column of whole numbers, read from ``path``."""
    if not pa.types.is_integer(table[name].type):
        raise PositronicError(f"{path}: column '{name}' holds {table[name].type}, expected whole numbers. {AGAIN}")
    return table[name].to_numpy().astype(np.int64)
