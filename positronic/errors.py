"""The one exception for a user's mistakes, and "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PositronicError(Exception):
    """A mistake that the user can mend. Printed without a traceback, exit code 1.

    The message says what was expected, what was found, where, and the next command to type.
    """


class ConventionError(PositronicError):
    """Two parts disagree about a convention (rotation, gripper sign, rate, ...)."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when an option is close to ``name``, else an empty string."""
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message: sorted, comma separated, cut after ``limit``; ``none`` when empty."""
    names = sorted(names)
    shown = ", ".join(names[:limit])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > limit else shown or "none"
