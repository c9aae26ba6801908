"""Where an artefact comes from: commit, whether the tree was dirty, and versions."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PROVENANCE_FILE = "provenance.json"
ROOT = Path(__file__).resolve().parents[2]
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
    """``commit`` (hash, None outside a git checkout), ``dirty`` (tracked files changed, or None), ``versions``."""
    commit, dirty = checked_out(ROOT)
    return {"commit": commit, "dirty": dirty, "versions": versions()}


def checked_out(root: Path) -> tuple[str | None, bool | None]:
    """Commit of the git checkout at ``root``, and whether its tracked files were changed; None for both when the folder
    is none itself."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None, None
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return _git(root, "rev-parse", "HEAD"), None if status is None else status != ""


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
