"""What a config field may hold beyond its type, said where the field is declared.

The rule travels in the dataclass field's metadata; ``positronic/refusals.py`` applies it at the end of composition.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

RULE = "rule"
WITH = "with"  # {another field: the value that it must have for this one to do something}
IS_PATH = "path"
PIXELS = 8192  # at most, at a side
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://?")
READ_SCHEMES = ("s3", "file")


@dataclass(frozen=True)
class Rule:
    """``accepts`` says whether a value is right, ``expected`` what would be; ``options`` feed "did you mean".

    Of a list, each item is asked, and there must be ``length`` of them if that is given. ``advice``: what to type
    instead of a value that is wrong, where that can be told: a mapping of names to values.
    """

    accepts: Callable[[Any], bool]
    expected: str
    options: tuple[str, ...] = ()
    length: int | None = None
    advice: Callable[[Any], Mapping[str, Any] | None] = lambda value: None


def one_of(*options: str, default: Any, **company: Any) -> Any:
    """A text with a few possible values."""
    return dataclasses.field(default=default, metadata=names(*options) | _with(company))


def names(*options: str) -> dict[str, Rule]:
    """Metadata of a text, or of a list of texts, with a few possible values."""
    return {RULE: Rule(lambda value: value in options, f"one of {', '.join(options)}", options)}


def between(low: float, high: float | None = None, *, default: Any) -> Any:
    """A number from ``low`` to ``high``, both included; ``high`` None means no upper end."""
    expected = f"a number from {low} to {high}" if high is not None else f"a number from {low} on"
    return _field(default, Rule(lambda value: low <= value <= (math.inf if high is None else high), expected))


def above(low: float, high: float | None = None, *, default: Any) -> Any:
    """A number greater than ``low``, and at most ``high``."""
    expected = f"a number above {low}" + ("" if high is None else f", at most {high}")
    return _field(default, Rule(lambda value: low < value <= (math.inf if high is None else high), expected))


def path(default: Any, **company: Any) -> Any:
    """A folder or file: a local path, ``file://`` or ``s3://``. ``~/`` is the home folder."""
    metadata = {IS_PATH: True, **_with(company)}
    return _field(default, Rule(_is_path, "a local path, or s3://<bucket>/<folder>"), **metadata)


def name(default: Any, what: str = "a name") -> Any:
    """A name, which becomes a part of a path and must not lead elsewhere. A comma would be a list meant for a sweep."""
    return _field(default, Rule(_is_name, f"{what} without commas, '..', a slash at an end or control characters"))


def host(default: Any) -> Any:
    """The name or address of a machine, without scheme and port."""
    return _field(default, Rule(_is_host, "the name or address of a machine alone", advice=_host_and_port))


def some(default: Any, what: str) -> Any:
    """A text that is not empty."""
    return _field(default, Rule(lambda value: bool(value.strip()), what))


def only_with(default: Any, **company: Any) -> Any:
    """A value that does something only where other fields have these values."""
    return dataclasses.field(default=default, metadata=_with(company))


def height_width(**how: Any) -> dict[str, Rule]:
    """Metadata of a list with a picture's height and width; both even, as the video's half-size colours need."""
    return {
        RULE: Rule(
            lambda pixels: 0 < pixels <= PIXELS and pixels % 2 == 0,
            f"a height and a width in pixels, even and at most {PIXELS}: [height,width]",
            length=2,
            **how,
        )
    }


HEIGHT_WIDTH = height_width()


def _with(company: Mapping[str, Any]) -> dict[str, Any]:
    return {WITH: dict(company)} if company else {}


def _field(default: Any, rule: Rule, **metadata: Any) -> Any:
    return dataclasses.field(default=default, metadata={RULE: rule, **metadata})


def _is_path(text: str) -> bool:
    scheme = SCHEME.match(text)
    return bool(text.strip()) and "\0" not in text and (scheme is None or scheme[1] in READ_SCHEMES)


def _is_name(text: str) -> bool:
    parts = text.split("/")
    plain = text == text.strip() and "," not in text and text.isprintable() and "\\" not in text
    return plain and all(part not in ("", ".", "..") for part in parts)


def _is_host(text: str) -> bool:
    plain = bool(text) and not re.search(r"[\s/,@?#]", text)
    return plain and (text.count(":") != 1)


def _host_and_port(text: str) -> Mapping[str, Any] | None:
    found = re.fullmatch(r"(?:\w+://)?(?P<host>[^\s/:,@]+)(?::(?P<port>\d+))?/?", text)
    return {key: value for key, value in found.groupdict().items() if value} if found else None
