"""The sources by name."""

from __future__ import annotations

import importlib
from pathlib import Path

from positronic.errors import PositronicError, did_you_mean
from positronic.importing.source import Source

CLASSES = {
    "hdf5": "positronic.importing.hdf5:Hdf5Source",
    "lerobot": "positronic.importing.lerobot:LerobotSource",
    "mcap": "positronic.importing.mcap:McapSource",
    "rlds": "positronic.importing.rlds:RldsSource",
}
"""What each one's library needs is imported when it is chosen."""


def open_source(name: str, path: Path) -> Source:
    """The recordings at ``path``. Raises PositronicError when there is nothing, and when they are of another kind."""
    if name not in CLASSES:
        raise PositronicError(f"source={name}: expected one of {', '.join(CLASSES)}.{did_you_mean(name, CLASSES)}")
    if not path.exists():
        raise PositronicError(f"path={path}: there is nothing. Type path=<folder or file of the recordings>.")
    module, _, kind = CLASSES[name].partition(":")
    return getattr(importlib.import_module(module), kind)(path)
