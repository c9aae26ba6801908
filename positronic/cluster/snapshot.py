"""The code of a sweep, as it was at submission.

A copy, not hard links: an editor that writes in place would change what waiting jobs run. Without data: what git
ignores stays, and so do large files that it does not know.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from positronic.errors import PositronicError
from positronic.utils.provenance import checked_out, note_commit

CODE, DIFF = "code", "code.diff"
LARGEST_UNTRACKED = 2**20  # bytes; larger files that git does not know are data
PARTS = ("run.py", "conf", "hydra_plugins", "positronic")  # outside of a git checkout


class Snapshot(NamedTuple):
    """``folder``: the copied tree. ``commit``, ``dirty``: as of ``checked_out``."""

    folder: Path
    commit: str | None
    dirty: bool | None


def take_snapshot(root: Path, into: Path) -> Snapshot:
    """Copy the tree at ``root`` into ``into/code``, and write what differs from its commit to ``into/code.diff``."""
    code = into / CODE
    commit, dirty = checked_out(root)
    _copy(root, code, _files(root) if commit is not None else _all_files(root))
    if not (code / "run.py").is_file():
        raise PositronicError(f"{root} holds no run.py: it cannot be run by a job. Install Positronic from a checkout.")
    if commit is not None:
        note_commit(code, commit, dirty)  # what a job makes says the same as if it was made from the checkout
        (into / DIFF).write_bytes(_git(root, "diff", "--binary", "HEAD"))
    return Snapshot(code, commit, dirty)


def _files(root: Path) -> list[str]:
    """Names of what git knows and, unless it ignores them, of small files beside."""
    tracked = _names(_git(root, "ls-files", "-z"))
    others = _names(_git(root, "ls-files", "-z", "--others", "--exclude-standard"))
    return [*tracked, *(name for name in others if _is_small(root / name))]


def _all_files(root: Path) -> list[str]:
    found = (
        path for part in PARTS for path in ([root / part] if part == "run.py" else sorted((root / part).rglob("*")))
    )
    return [str(path.relative_to(root)) for path in found if path.is_file() and "__pycache__" not in path.parts]


def _copy(root: Path, code: Path, names: Iterable[str]) -> None:
    for name in names:
        source, target = root / name, code / name
        if not os.path.lexists(source) or (source.is_dir() and not source.is_symlink()):
            continue  # deleted, or a repository of its own
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def _is_small(path: Path) -> bool:
    return path.is_symlink() or (path.is_file() and path.stat().st_size <= LARGEST_UNTRACKED)


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _git(root: Path, *arguments: str) -> bytes:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(["git", *arguments], cwd=root, env=environment, stdout=subprocess.PIPE, check=True).stdout
