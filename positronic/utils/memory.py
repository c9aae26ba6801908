"""How much memory there is for us."""

from __future__ import annotations

import os
from pathlib import Path

from positronic.utils.cgroups import CGROUPS, MEMBERSHIP, folders

MEMINFO = Path("/proc/meminfo")
SHARED_MEMORY = Path("/dev/shm")  # of Linux; a container of Docker has 64 MB unless it is told otherwise
UNLIMITED = 1 << 62
# Limit, use, and the line of memory.stat with the pages of files that can be dropped: of both versions of cgroups.
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Memory that can be taken without swapping: what the machine has, and no more than the container's limit leaves.

    A very large number where the system does not tell.
    """
    left = (room for folder in folders("memory", cgroups, membership) for room in _rooms(folder))
    return max(0, min(_of_machine(meminfo), *left, UNLIMITED))


def free_shared_bytes(folder: Path = SHARED_MEMORY) -> int | None:
    """What is free of the memory that processes share through files; None where it has no limit of its own."""
    try:
        disk = os.statvfs(folder)
    except OSError:  # there is no such folder on a Mac
        return None
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else None  # a tmpfs without a size tells 0


def _of_machine(meminfo: Path) -> int:
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return UNLIMITED


def _rooms(folder: Path) -> list[int]:
    """What the limit of one group leaves; nothing when it has none."""
    rooms = []
    for limit, used, droppable in FILES:
        try:
            room = int((folder / limit).read_text()) - int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        rooms.append(room + int(stat.get(droppable, 0)))
    return rooms
