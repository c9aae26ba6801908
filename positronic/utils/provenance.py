"""Where an artefact comes from: commit, whether the tree was dirty, and versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PROVENANCE_FILE = "provenance.json"
ROOT = Path(__file__).resolve().parents[2]
COMMIT_FILE = "commit.json"  # in a copy of the checkout that jobs of a cluster run
PACKAGES = (
    "positronic-hydra",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pyarrow",
    "av",
    "pillow",
    "torch",
    "lerobot",
    "litserve",
    "mujoco",
    "mujoco-core",
)


def provenance() -> dict[str, Any]:
    """``commit`` (hash, None outside a git checkout and its copies), ``dirty`` (tracked files changed, or None),
    ``versions``."""
    commit, dirty = checked_out(ROOT)
    if commit is None:
        commit, dirty = _noted(ROOT / COMMIT_FILE)
    return {"commit": commit, "dirty": dirty, "versions": versions()}


def checked_out(root: Path) -> tuple[str | None, bool | None]:
    """Commit of the git checkout at ``root``, and whether its tracked files were changed; None for both when the folder
    is none itself."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None, None
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return _git(root, "rev-parse", "HEAD"), None if status is None else status != ""


def note_commit(folder: Path, commit: str | None, dirty: bool | None) -> None:
    """Say in ``folder``, a copy of a checkout's files, of which commit it is."""
    (folder / COMMIT_FILE).write_text(json.dumps({"commit": commit, "dirty": dirty}) + "\n")


def _noted(file: Path) -> tuple[str | None, bool | None]:
    try:
        found = json.loads(file.read_text())
        return found["commit"], found["dirty"]
    except (OSError, ValueError, LookupError, TypeError):
        return None, None


def versions() -> dict[str, str]:
    """Python's version and those of the installed packages that results depend on. Imports none of them."""
    from importlib import metadata  # late: a tenth of a second that only a run needs

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    """Standard output of git in ``folder``, or None when git is missing or refuses.

    A hook's GIT_* variables point elsewhere: they are left out.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
