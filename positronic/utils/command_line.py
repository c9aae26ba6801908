"""Commands for messages, made from what was typed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

SCRIPT = "run.py"
RUN = f"python {SCRIPT}"
RESUME = "resume=true"  # of the stages that continue an interrupted run
# Overrides that mean the same to every stage.
SHARED = ("+experiment", "+debug", "vendor", "codec", "embodiment", "dataset", "modality", "paths")
NOT_SHARED = "vendor."  # its values count for training only
BACKEND = "vendor.backend"  # this one in a bake too: it says which format is trained on
REACHED_BY = "storage"  # the same to every stage as well
# Overrides that say where data lie, which a command that names a folder leaves out.
PLACES = ("dataset", "paths")
OWN_FILES, OWN_FILES_SHORT = "--config-dir", "-cd"
ALONE = "stage=serve"  # takes a process of its own: typed in a shell, from wherever


class Composed(NamedTuple):
    """What ``positronic.compose`` was given. ``changed``: which parts and parameters were changed since."""

    overrides: tuple[str, ...]
    conf_dir: str | None = None
    changed: frozenset[str] = frozenset()


_in_python: ContextVar[Composed | None] = ContextVar("in_python", default=None)


@contextmanager
def in_python(composed: Composed) -> Iterator[None]:
    """Inside, commands are those of a notebook or a script that has composed its config so."""
    token = _in_python.set(composed)
    try:
        yield
    finally:
        _in_python.reset(token)


def again(*more: str, without: Sequence[str] = ()) -> str:
    """The command of this process with ``more`` overrides, and without those of the keys ``without``. If it is not
    known what was typed, only the additions."""
    keys = {key_of(each) for each in more} | set(without)
    typed = [each for each in _typed() if key_of(each) not in keys]
    return _spelt([*typed, *more] if typed and not _changed() else ["...", *more])


def command(stage: str, last: Mapping[str, str]) -> str:
    """The command of a stage with these values alone."""
    return _command(stage, [], {}, last)


def instead(stage: str, values: Mapping[str, str], last: Mapping[str, str]) -> str:
    """The command of another stage: the typed overrides that mean the same there, or ``values`` if there are none; then
    ``last``. Own config files are named again."""
    return _command(stage, [*filter(is_shared, _typed()), *_unknown()], values, last)


def overrides_for(stage: str, typed: Sequence[str], last: Mapping[str, str]) -> list[str]:
    """Overrides of another stage: those of ``typed`` that mean the same there, then ``last``."""
    shared = [each for each in typed if is_shared(each) or key_of(each).partition(".")[0] == REACHED_BY]
    return [f"stage={stage}", *shared, *(f"{name}={value}" for name, value in last.items())]


def spelt(overrides: Sequence[str]) -> str:
    """The command of these overrides, and of own config files."""
    return _spelt(overrides, own_files())


def next_line(stage: str, last: Mapping[str, str], values: Mapping[str, str] | None = None) -> str:
    """The closing line of a stage: the command of the next stage, with the folder that ``last`` names.

    With ``values`` it keeps the typed overrides that mean the same there; if there are none, it takes ``values``.
    """
    shared = [each for each in _typed() if is_shared(each) and key_of(each).partition(".")[0] not in PLACES]
    shared += [each for each in _typed() if key_of(each) == BACKEND and stage == "train"]
    return f"  next:    {_command(stage, [*shared, *_unknown(PLACES)] if values else [], values or {}, last)}"


def was_typed(key: str) -> bool:
    """Whether ``key=...`` was typed for ``run.py`` or given to ``compose``; False where it cannot be known."""
    return any(key_of(argument).lstrip("+") == key for argument in _typed())


def own_files() -> list[str]:
    """The flag that names a folder of own config files, which every stage needs, and the folder; empty without one."""
    composed, arguments = _in_python.get(), _arguments()
    if composed is not None:
        return [OWN_FILES, composed.conf_dir] if composed.conf_dir else []
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in (OWN_FILES, OWN_FILES_SHORT):
            return [OWN_FILES, value if equals else arguments[place + 1]]
    return []


def _command(stage: str, typed: Sequence[str], values: Mapping[str, str], last: Mapping[str, str]) -> str:
    chosen = typed or [f"{name}={value}" for name, value in values.items()]
    return _spelt([f"stage={stage}", *chosen, *(f"{name}={value}" for name, value in last.items())], own_files())


def _spelt(arguments: Sequence[str], flags: Sequence[str] = ()) -> str:
    """A line for a shell, or for Python."""
    composed = _in_python.get()
    if composed is None or ALONE in arguments:
        return " ".join([RUN, *(each if each == "..." else shlex.quote(each) for each in [*arguments, *flags])])
    items = ", ".join(each if each == "..." else json.dumps(each, ensure_ascii=False) for each in arguments)
    own = f", conf_dir={json.dumps(composed.conf_dir, ensure_ascii=False)}" if composed.conf_dir else ""
    return f"positronic.run(positronic.compose([{items}]{own}))"


def key_of(override: str) -> str:
    """What it sets: ``vendor.base`` of ``vendor.base=x``."""
    return override.partition("=")[0]


def is_shared(override: str) -> bool:
    """Whether it means the same to every stage."""
    key = key_of(override)
    return key.partition(".")[0] in SHARED and not key.startswith(NOT_SHARED)


def _changed() -> frozenset[str]:
    composed = _in_python.get()
    return composed.changed if composed else frozenset()


def _unknown(but: Sequence[str] = ()) -> list[str]:
    """Dots where a part was changed that means the same to every stage: what one would have to give is not known."""
    return ["..."] if _changed() & (set(SHARED) - set(but)) else []


def _typed() -> list[str]:
    """The overrides of ``run.py`` or ``compose``; none where they are not known."""
    composed = _in_python.get()
    return _arguments() if composed is None else list(composed.overrides)


def _arguments() -> list[str]:
    return sys.argv[1:] if sys.argv and Path(sys.argv[0]).name == SCRIPT else []
