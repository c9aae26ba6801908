"""HDF5 files that are whole: opened, and what is in them by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from positronic.errors import PositronicError

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".hdf5", ".h5", ".hdf")
LOCKED = ("unable to lock", "already open for write")
BYTES = "OSV"  # numpy's kinds of a dataset whose samples are texts or bytes of any length


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file, to be read. Raises PositronicError for one that another program writes, or did until it was ended, for
    one that is cut off, and for what is no HDF5."""
    h5py = _library()
    try:
        file = h5py.File(path, "r", locking="best-effort")  # some network file systems have no locks
    except OSError as error:
        raise PositronicError(f"{path}: {_reason(str(error))}") from None
    with file:
        yield file


@contextmanager
def looking_into(path: Path) -> Iterator[h5py.File]:
    """The same for a look at what is in the file: what its library says of damaged bytes is a PositronicError, too."""
    with open_hdf5(path) as file, telling_damage(str(path)):
        yield file


@contextmanager
def telling_damage(where: str) -> Iterator[None]:
    """Raise PositronicError for what HDF5's library raises when it meets damaged bytes."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, MemoryError) as error:
        raise PositronicError(
            f"{where}: damaged ({error}). Copy it again, or move the file out of the folder."
        ) from None


def datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Path below ``group`` -> dataset, in order of the paths."""
    found: dict[str, Any] = {}
    h5py = _library()
    group.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return dict(sorted(found.items()))


def require_written(data: h5py.Dataset, where: str) -> None:
    """Raise PositronicError for a dataset of which a part was never written: a program that makes it at full length
    fills it later, and was ended before, or has not come to it yet."""
    if data.size and data.chunks:
        wanted = int(np.prod([-(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True)]))
        there = data.id.get_num_chunks()
        if there < wanted:
            raise _unwritten(where, f"{there} of its {wanted} chunks")
    elif data.size and not data.id.get_storage_size():
        raise _unwritten(where, "nothing of it")


def samples(data: h5py.Dataset, rows: int = 16) -> Iterator[Any]:
    """The dataset's samples, read a few rows at a time, or as many as a chunk has, so that it is decompressed once."""
    rows = data.chunks[0] if data.chunks else rows
    for start in range(0, len(data), rows):
        with telling_damage(f"{data.file.filename}, '{data.name}'"):
            block = data[start : start + rows]
        yield from block


def _unwritten(where: str, how_much: str) -> PositronicError:
    return PositronicError(
        f"{where}: {how_much} was written. Wait until the recording is finished, or move this file out of the folder."
    )


def _reason(error: str) -> str:
    if any(sign in error for sign in LOCKED):
        return (
            "another program has it open for writing, or was ended while it did. Wait until the recording is finished; "
            "if nothing writes it any more, `h5clear -s <file>` (of HDF5's own tools) says so in the file."
        )
    if "truncated" in error:
        return f"the file is cut off ({error}). Copy it again, or move it out of the folder."
    if "signature not found" in error:
        return "no HDF5 file. Expected one that begins with HDF5's signature; is it empty, or of another format?"
    return f"cannot be opened ({error})."


def _library() -> Any:
    try:
        import h5py
    except ModuleNotFoundError:
        raise PositronicError("source=hdf5 needs the package h5py: pip install -e '.[import]'") from None
    return h5py
