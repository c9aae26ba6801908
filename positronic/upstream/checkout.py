"""Where a vendor's own code and its interpreter are, and which version that is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError, listing
from positronic.upstream.environment import environment
from positronic.utils.provenance import checked_out

PROBE_SEC = 60.0  # an interpreter's start from a slow disk
PYTHON = Path(".venv") / "bin" / "python"  # in a checkout, as ``uv sync`` makes it
ANSWER = "positronic:"  # begins the line of ours; an environment may print others when it starts

# Runs in the vendor's interpreter, whatever version that is: nothing is imported but the standard library.
PROBE = f"""
import importlib.util, json, platform, sys
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
modules, packages = json.loads(sys.argv[1])
print({ANSWER!r} + json.dumps([
    platform.python_version(),
    [name for name in modules if importlib.util.find_spec(name) is None],
    {{name: version(name) for name in packages}},
]))
"""


@dataclass(frozen=True)
class Source:
    """Which code it was, for a manifest. ``commit``: None outside a git checkout; ``dirty``: tracked files were
    changed; ``versions``: of installed packages, None for one that is not."""

    repository: str
    commit: str | None
    dirty: bool | None
    python: str
    versions: Mapping[str, str | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    def __str__(self) -> str:
        changed = " with changes" if self.dirty else ""
        which = f"commit {self.commit[:7]}{changed}" if self.commit else "no git checkout"
        told = ", ".join(f"{name} {version}" for name, version in self.versions.items() if version)
        return f"{self.repository} ({which}{', ' if told else ''}{told}), Python {self.python}"


@dataclass(frozen=True)
class Repository:
    """What is known of a vendor's repository.

    name: as people call it
    folder: where its checkout is looked for unless vendor.repo says so, relative to the working directory
    markers: files that every checkout of it has, relative to it
    modules: that its interpreter must find, top-level names alone: nothing is imported
    packages: whose versions are recorded
    setup: the command that makes checkout and environment; ``{folder}`` in it stands for the place
    refuses: why a version of it cannot be used, and what to type instead; None if it can
    """

    name: str
    folder: str
    markers: tuple[str, ...]
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    setup: str
    refuses: Callable[[Source], str | None] = lambda source: None


@dataclass(frozen=True)
class Checkout:
    """A checkout that is complete. ``repo``: absolute. ``python``: its interpreter, whose links are not followed: an
    environment is known by the path."""

    repo: Path
    python: Path
    source: Source


def find_checkout(repository: Repository, repo: str | None = None, python: str | None = None) -> Checkout:
    """The checkout at ``repo`` with interpreter ``python``, which are ``vendor.repo`` and ``vendor.python``; None for
    the usual places.

    Raises PositronicError, with the command that helps, for a folder or interpreter that is missing or another's, for a
    module that is not installed there, and for a version that ``repository.refuses``.
    """
    folder = _absolute(repo or repository.folder)
    setup = repository.setup.format(folder=folder)
    _require_repository(repository, folder, setup)
    interpreter = _absolute(python) if python else folder / PYTHON
    if not os.access(interpreter, os.X_OK) or interpreter.is_dir():
        raise PositronicError(
            f"{repository.name} has no interpreter {interpreter}. Make its environment, or name another one with "
            f"vendor.python=<path>:\n  {setup}"
        )
    version, missing, packages = _probe(interpreter, repository, setup)
    if missing:
        raise PositronicError(
            f"{interpreter} does not find {listing(missing)}, which {repository.name} needs. Install it, or name the "
            f"right interpreter with vendor.python=<path>:\n  {setup}"
        )
    source = Source(repository.name, *checked_out(folder), version, packages)
    if (why := repository.refuses(source)) is not None:
        raise PositronicError(f"The checkout at {folder} is {source}. {why}")
    return Checkout(folder, interpreter, source)


def _require_repository(repository: Repository, folder: Path, setup: str) -> None:
    if not folder.is_dir():
        raise PositronicError(
            f"{repository.name} is not at {folder}. Set it up there, or say where it is with vendor.repo=<folder>:"
            f"\n  {setup}"
        )
    missing = [marker for marker in repository.markers if not (folder / marker).exists()]
    if missing:
        raise PositronicError(
            f"{folder} is no checkout of {repository.name}: it has no {listing(missing)}. Say where it is with "
            f"vendor.repo=<folder>, or set it up at a place of its own:\n  {setup}"
        )


def _probe(python: Path, repository: Repository, setup: str) -> tuple[str, Sequence[str], Mapping[str, str | None]]:
    """Its version, modules that it does not find, and versions of packages."""
    asked = json.dumps([repository.modules, repository.packages])
    try:
        done = subprocess.run(
            [python, "-c", PROBE, asked],
            cwd=python.anchor,  # not the checkout: what lies in the working directory would count as installed
            env=environment({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SEC,
            check=True,
        )
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(ANSWER))
        return tuple(json.loads(line.removeprefix(ANSWER)))
    except subprocess.TimeoutExpired:
        why = f"did not answer within {PROBE_SEC:g} s"
    except subprocess.CalledProcessError as error:
        why = f"ended with exit code {error.returncode}: {(error.stderr.strip().splitlines() or ['no message'])[-1]}"
    except (OSError, ValueError) as error:
        why = f"is no Python interpreter that runs here ({error})"
    raise PositronicError(
        f"{python}, the interpreter of {repository.name}, {why}. Make its environment again, or name another one with "
        f"vendor.python=<path>:\n  {setup}"
    )


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))
