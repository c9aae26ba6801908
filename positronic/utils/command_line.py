"""Commands for messages, made from what was typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SCRIPT = "run.py"
RUN = f"python {SCRIPT}"
# Overrides that mean the same to every stage.
SHARED = ("+experiment", "+debug", "vendor", "codec", "dataset", "modality", "paths")
NOT_SHARED = ("vendor.policy", "vendor.backend")  # these count for training only
# Overrides that say where data lie, which a command that names a folder leaves out.
PLACES = ("dataset", "paths")


def again(*more: str) -> str:
    """The command of this process with ``more`` overrides. Without a command line, only the additions."""
    keys = {_key(each) for each in more}
    typed = [each for each in _typed() if _key(each) not in keys]
    return " ".join([RUN, *map(shlex.quote, [*typed, *more])]) if typed else f"{RUN} ... {' '.join(more)}"


def instead(stage: str, values: Mapping[str, str], last: Mapping[str, str]) -> str:
    """The command of another stage: the typed overrides that mean the same there, or ``values`` if there are none; then
    ``last``."""
    return _command(stage, [each for each in _typed() if _is_shared(_key(each))], values, last)


def next_line(stage: str, last: Mapping[str, str], values: Mapping[str, str] | None = None) -> str:
    """The closing line of a stage: the command of the next stage, with the folder that ``last`` names.

    With ``values`` it keeps the typed overrides that mean the same there; if there are none, it takes ``values``.
    """
    shared = [each for each in _typed() if _is_shared(_key(each)) and _key(each).partition(".")[0] not in PLACES]
    return f"  next:    {_command(stage, shared if values else [], values or {}, last)}"


def was_typed(key: str) -> bool:
    """Whether ``key=...`` was typed for ``run.py``; False in a notebook, where it cannot be known."""
    return any(_key(argument).lstrip("+") == key for argument in _typed())


def _command(stage: str, typed: Sequence[str], values: Mapping[str, str], last: Mapping[str, str]) -> str:
    chosen = typed or [f"{name}={value}" for name, value in values.items()]
    arguments = [f"stage={stage}", *chosen, *(f"{name}={value}" for name, value in last.items())]
    return " ".join([RUN, *map(shlex.quote, arguments)])


def _key(override: str) -> str:
    return override.partition("=")[0]


def _is_shared(key: str) -> bool:
    return key.partition(".")[0] in SHARED and not key.startswith(NOT_SHARED)


def _typed() -> list[str]:
    """The overrides of ``run.py``; none in a notebook or a test."""
    return sys.argv[1:] if sys.argv and Path(sys.argv[0]).name == SCRIPT else []
