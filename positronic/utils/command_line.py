"""Commands for messages, made of what was typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

SCRIPT = "run.py"
RUN = f"python {SCRIPT}"
# Overrides that mean the same to every stage.
SHARED = ("+experiment", "+debug", "vendor", "codec", "dataset", "modality", "paths")
NOT_SHARED = ("vendor.policy", "vendor.backend")  # what training makes of it


def again(*more: str) -> str:
    """The command of this process with ``more`` overrides; without a command line, only what is to be added."""
    keys = {each.partition("=")[0] for each in more}
    typed = [each for each in _typed() if each.partition("=")[0] not in keys]
    return " ".join([RUN, *map(shlex.quote, [*typed, *more])]) if typed else f"{RUN} ... {' '.join(more)}"


def instead(stage: str, values: Mapping[str, str], last: Mapping[str, str]) -> str:
    """The command of another stage: what was typed and means the same there, else ``values``; and ``last``."""
    typed = [argument for argument in _typed() if _is_shared(argument.partition("=")[0])]
    chosen = typed or [f"{name}={value}" for name, value in values.items()]
    arguments = [f"stage={stage}", *chosen, *(f"{name}={value}" for name, value in last.items())]
    return " ".join([RUN, *map(shlex.quote, arguments)])


def was_typed(key: str) -> bool:
    """Whether ``key=...`` was typed for ``run.py``; False in a notebook, where it cannot be known."""
    return any(argument.lstrip("+").partition("=")[0] == key for argument in _typed())


def _is_shared(key: str) -> bool:
    return key.partition(".")[0] in SHARED and not key.startswith(NOT_SHARED)


def _typed() -> list[str]:
    """The overrides of ``run.py``; none in a notebook or a test."""
    return sys.argv[1:] if sys.argv and Path(sys.argv[0]).name == SCRIPT else []
