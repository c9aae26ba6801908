"""Where an artefact comes from: commit, whether the tree was dirty, and versions."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

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
    top = _git("rev-parse", "--show-toplevel")
    inside = top is not None and Path(top).resolve() == ROOT
    status = _git("status", "--porcelain", "--untracked-files=no") if inside else None
    return {
        "commit": _git("rev-parse", "HEAD") if inside else None,
        "dirty": None if status is None else status != "",
        "versions": versions(),
    }


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


def _git(*arguments: str) -> str | None:
    """Standard output, or None when git is missing or refuses. A hook's GIT_* variables point elsewhere: left out."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
