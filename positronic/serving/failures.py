"""Errors as text.

An exception must not outlive its handling here. Its traceback holds the frames that it passed, and these hold the whole
observation, until Python's cyclic collector happens to run.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from positronic.errors import PositronicError, clipped
from positronic.serving.discretion import told

logger = logging.getLogger(__name__)

MAX_LOGGED = 10_000  # characters of a traceback
MAX_REASON = 1000  # characters; an error may quote what a stranger sent


NO_MEMORY = ("can't allocate memory", "_STATUS_ALLOC_FAILED", "out of memory", "RESOURCE_EXHAUSTED")
"""In the texts of torch's errors, of the CPU's memory and the GPU's, and of JAX's."""


@dataclass(frozen=True)
class Failure:
    """Why there is no answer, for the person at the other end. ``out_of_memory``: less might have been computed."""

    reason: str
    out_of_memory: bool = False


def attempt[T, R](function: Callable[[T], R], argument: T, log: bool = True) -> R | Failure:
    """``function(argument)``, or why it failed, whatever it raised: a model is foreign code, and one that calls
    ``sys.exit`` must not end everybody's server. ``log``: put what is nobody's mistake into the
    server's log, and what a client is not told."""
    try:
        return function(argument)
    except BaseException as error:
        if log and isinstance(error, PositronicError):
            _log_hidden(describe(error))
        elif log:
            said = clipped("".join(traceback.format_exception(error)), MAX_LOGGED)
            logger.error("An observation could not be answered:\n%s", said)  # as text: handlers may keep records
        return failed(error)


def _log_hidden(reason: str) -> None:
    if told(reason) != reason:
        logger.error("An observation could not be answered: %s", reason)


def failed(error: BaseException) -> Failure:
    """The error's text. Everything that its traceback, or those of its causes, held is released."""
    reason = describe(error)
    out_of_memory = isinstance(error, MemoryError) or any(text in reason for text in NO_MEMORY)
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    return Failure(reason, out_of_memory)


def describe(error: BaseException) -> str:
    """A user's mistake in its own words; other errors with their type."""
    try:
        said = str(error)
    except Exception:  # a foreign class may fail at this too
        said = "its text cannot be shown"
    return clipped(said if isinstance(error, PositronicError) else f"{type(error).__name__}: {said}", MAX_REASON)
