"""The one exception for a user's mistakes, and "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

MAX_OPTIONS = 256  # of names that are searched for the nearest
MAX_NAME = 200  # characters of a name in a message
MAX_TEXT = 500


class PositronicError(Exception):
    """A mistake that the user can mend. Printed without a traceback, exit code 1.

    The message says what was expected, what was found, where, and the next command to type.
    """


class ConventionError(PositronicError):
    """Two parts disagree about a convention (rotation, gripper sign, rate, ...)."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when an option is close to ``name``, else an empty string.

    The search takes time by the number and length of names, which may be a stranger's: it looks at the first
    ``MAX_OPTIONS`` that are not much longer than ``name``.
    """
    if len(name) > MAX_NAME:
        return ""
    options = [option for option in islice(options, MAX_OPTIONS) if len(option) <= 3 * len(name)]
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message: sorted, comma separated, cut after ``limit``; ``none`` when empty."""
    names = sorted(names)
    shown = ", ".join(clipped(name, MAX_NAME) for name in names[:limit])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > limit else shown or "none"


def clipped(text: str, limit: int = MAX_TEXT) -> str:
    """``text`` for a message: what is beyond ``limit`` characters is left out."""
    return text if len(text) <= limit else f"{text[:limit]}..."
