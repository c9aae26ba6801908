"""What a config field may hold beyond its type, said where the field is declared.

The rule travels in the dataclass field's metadata; ``positronic/refusals.py`` applies it at the end of composition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RULE = "rule"


@dataclass(frozen=True)
class Rule:
    """``accepts`` says whether a value is right, ``expected`` what would be; ``options`` feed "did you mean".

    Of a list, each item is asked, and there must be ``length`` of them if that is given.
    """

    accepts: Callable[[Any], bool]
    expected: str
    options: tuple[str, ...] = ()
    length: int | None = None


# Metadata of a list with a picture's height and width.
HEIGHT_WIDTH = {RULE: Rule(lambda pixels: pixels > 0, "a height and a width in pixels: [height,width]", length=2)}


def one_of(*options: str, default: Any) -> Any:
    """A text with a few possible values."""
    return dataclasses.field(default=default, metadata=names(*options))


def names(*options: str) -> dict[str, Rule]:
    """Metadata of a text, or of a list of texts, with a few possible values."""
    return {RULE: Rule(lambda value: value in options, f"one of {', '.join(options)}", options)}


def between(low: float, high: float | None = None, *, default: Any) -> Any:
    """A number from ``low`` to ``high``, both included; ``high`` None means no upper end."""
    expected = f"a number from {low} to {high}" if high is not None else f"a number from {low} on"
    return _field(default, Rule(lambda value: value >= low and (high is None or value <= high), expected))


def above(low: float, *, default: Any) -> Any:
    """A number greater than ``low``."""
    return _field(default, Rule(lambda value: value > low, f"a number above {low}"))


def _field(default: Any, rule: Rule) -> Any:
    return dataclasses.field(default=default, metadata={RULE: rule})
