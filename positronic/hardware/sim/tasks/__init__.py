"""Tasks, one a file. docs/tasks.md says how to write another."""

from __future__ import annotations

import pkgutil


def names() -> list[str]:
    """Names of the tasks here."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
