"""The most memory that a bake and its workers hold at once, which is not to grow with the number of episodes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from bench.recordings import PROVENANCE, Size, make_raw, open_source

FEW = 120  # episodes; more than the 100 that writers hold before they write a row group
MANY = 4  # times as many
SECONDS = 0.4
SIZE = Size(320, 240)
EVERY_SEC = 0.05
MB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


class Peak(NamedTuple):
    """Bytes of resident memory: the most at one moment over all processes, and the most of the bake's own process."""

    episodes: int
    tree: int
    parent: int


def measure_memory(scratch: Path, episodes: int, workers: int) -> list[Peak]:
    """Of ``episodes`` short ones and of MANY times as many, each in a fresh process."""
    raw = scratch / "raw_memory"
    make_raw(raw, SIZE, MANY * episodes, SECONDS, workers)
    peaks = [peak_of(raw, count, scratch / "memory", workers) for count in (episodes, MANY * episodes)]
    shutil.rmtree(raw)
    return peaks


def peak_of(raw: Path, episodes: int, output: Path, workers: int) -> Peak:
    """Bake in a process of its own and watch it. Raises RuntimeError when the bake fails."""
    process = multiprocessing.get_context("spawn").Process(target=bake_first, args=(raw, episodes, output, workers))
    process.start()
    tree = parent = 0
    while process.is_alive():
        sizes = {pid: resident(pid) for pid in family(process.pid)}
        tree, parent = max(tree, sum(sizes.values())), max(parent, sizes[process.pid])
        time.sleep(EVERY_SEC)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"baking {episodes} episodes of {raw} ended with {process.exitcode}")
    shutil.rmtree(output)
    return Peak(episodes, tree, parent)


def bake_first(raw: Path, episodes: int, output: Path, workers: int) -> None:
    """Bake some of a recording."""
    from positronic.bake.convert import BakeOptions, bake

    source = open_source(raw)
    options = BakeOptions(vendor="lerobot", num_workers=workers)
    bake(source.dataset[:episodes], source.recipe, output, options, provenance=PROVENANCE)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for each in filter(str.isdigit, os.listdir("/proc")):
        children.setdefault(parent_of(int(each)), []).append(int(each))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def parent_of(pid: int) -> int:
    """0 when the process has gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def resident(pid: int) -> int:
    """Bytes; 0 when the process has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def memory_table(peaks: Sequence[Peak], workers: int) -> Table:
    """Few and many side by side."""
    few, many = peaks
    table = Table(title=f"Peak resident memory, MB: {SIZE}, episodes of {SECONDS:g} s, {workers} processes, v3.0")
    for title in ("", f"{few.episodes} episodes", f"{many.episodes} episodes", "difference"):
        table.add_column(title, justify="right" if title else "left")
    for name, less, more in (("all processes", few.tree, many.tree), ("the bake's own", few.parent, many.parent)):
        table.add_row(name, *(f"{value / MB:.0f}" for value in (less, more, more - less)))
    return table
