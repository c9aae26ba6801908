"""Every file of a baked dataset with its size and checksum, so that a changed byte is noticed.

Each line is about one file: CRC-32, bytes, name. The last line has the checksum of the lines before it. It is CRC-32
and not SHA-256, because it guards against damage and mix-ups and not against people. It is as fast as the disk, and a
dataset is read before every training.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from positronic import keys
from positronic.bake.reading import AGAIN, reading
from positronic.errors import PositronicError
from positronic.utils.files import replace_text
from positronic.utils.threads import available_cores

BLOCK = 1 << 20


class Recorded(NamedTuple):
    """``checksum``: CRC-32 as eight hexadecimal digits. ``size`` in bytes."""

    checksum: str
    size: int


FileList = dict[str, Recorded]
"""By name, relative to the dataset."""


def measure(root: Path, names: Iterable[str]) -> FileList:
    """Read the files whole, by one thread per core."""
    names = sorted(names)
    with ThreadPoolExecutor(available_cores()) as pool:
        return dict(zip(names, pool.map(lambda name: _measure(root / name), names), strict=True))


def _measure(path: Path) -> Recorded:
    checksum = size = 0
    with reading(path), path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return Recorded(f"{checksum:08x}", size)


def recorded(content: bytes) -> Recorded:
    """The record of a file with this content."""
    return Recorded(f"{zlib.crc32(content):08x}", len(content))


def write_file_list(root: Path, files: Mapping[str, Recorded]) -> None:
    """Write the list into the dataset in ``root``."""
    text = "".join(_line(name, each) for name, each in sorted(files.items()))
    replace_text(root / keys.FILE_LIST, text + _line(keys.FILE_LIST, recorded(text.encode())))


def read_file_list(root: Path) -> FileList:
    """Raises PositronicError when it is missing or is not what was written."""
    path = root / keys.FILE_LIST
    with reading(path):
        content = path.read_bytes()
        listed, _, last = content.rstrip(b"\n").rpartition(b"\n")
        listed += b"\n"
        if content != listed + _line(keys.FILE_LIST, recorded(listed)).encode():
            raise ValueError(f"its last line {last!r} does not fit the lines before it")
        fields = [line.split(" ", 2) for line in listed.decode().split("\n")[:-1]]
        return {name: Recorded(checksum, int(size)) for checksum, size, name in fields}


def require_present(root: Path, files: Iterable[str]) -> None:
    """Raise PositronicError for the first of ``files`` that is missing."""
    missing = next((name for name in files if not (root / name).is_file()), None)
    if missing:
        raise PositronicError(f"{root / missing} is missing, so this is not a whole baked dataset. {AGAIN}")


def require_sizes(root: Path, files: Mapping[str, Recorded]) -> None:
    """Raise PositronicError for the first of ``files`` that has grown or shrunk."""
    for name, expected in files.items():
        with reading(root / name):
            size = (root / name).stat().st_size
        if size != expected.size:
            raise PositronicError(
                f"{root / name} is damaged: it has {size} bytes, but the bake wrote {expected.size}. {AGAIN}"
            )


def changed_files(root: Path, files: Mapping[str, Recorded]) -> list[str]:
    """Those of ``files`` with other bytes than the bake wrote; all are read."""
    return [name for name, found in measure(root, files).items() if found != files[name]]


def _line(name: str, each: Recorded) -> str:
    return f"{each.checksum} {each.size} {name}\n"
