"""The control groups of this process: what a container may use is written there, not in the machine's own counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")  # where they are mounted
MEMBERSHIP = Path("/proc/self/cgroup")  # lines of <number>:<controllers>:<path>; version 2 has no controllers


def folders(controller: str, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """The folders of this process's group and those around it, up to the mount, where ``controller`` may be limited.

    Inside a container the path may be the host's: then those that do not exist here are simply not read.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        of_version_1 = (cgroups / controller, cgroups / controllers)
        for mount in of_version_1 if controllers else (cgroups, cgroups / "unified"):
            inner = mount / path.strip("/")
            yield from (inner, *(parent for parent in inner.parents if parent.is_relative_to(mount)))
