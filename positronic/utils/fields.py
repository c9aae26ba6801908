"""What a config field may hold beyond its type. The rule is written where the field is declared.

It is stored in the dataclass field's metadata; ``positronic/refusals.py`` applies it at the end of composition.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

RULE = "rule"
WITH = "with"  # {another field: the value, or one of those, that it must have for this one to do something}
ANY = ...  # in WITH: any value but null
IS_PATH = "path"
PIXELS = 8192  # at most, at a side
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|(s3|gs|file|https?|hf):", re.IGNORECASE)
READ_SCHEMES = re.compile(r"s3://[^/]+(/.*)?|file:///.*", re.DOTALL)
NO_PATHS = ("null", "None")  # what was meant for no folder would become one of this name
MOST = 2**63 - 1  # of whole numbers that numpy and torch take
DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")


@dataclass(frozen=True)
class Rule:
    """``accepts``: whether a value is right. ``expected``: what would be right. ``options``: for "did you mean".

    In a list, each item is checked, and there must be ``length`` of them if it is given. ``advice``: what to type
    instead of a wrong value, if that can be told: a mapping of names to values.
    """

    accepts: Callable[[Any], bool]
    expected: str
    options: tuple[str, ...] = ()
    length: int | None = None
    together: Callable[[Any], bool] = lambda values: True
    advice: Callable[[Any], Mapping[str, Any] | None] = lambda value: None
    remark: Callable[[str, Any], str] = lambda key, value: ""


def one_of(*options: Any, default: Any, **company: Any) -> Any:
    """A text, or a number, with a few possible values."""
    return dataclasses.field(default=default, metadata=names(*options) | _with(company))


def names(*options: Any) -> dict[str, Rule]:
    """Metadata of a text, or of a list of texts, with a few possible values."""
    texts = tuple(option for option in options if isinstance(option, str))
    return {RULE: Rule(lambda value: value in options, f"one of {', '.join(map(str, options))}", texts)}


def between(low: float, high: float | None = None, *, default: Any, **company: Any) -> Any:
    """A number from ``low`` to ``high``, both included; ``high`` None means no upper end that a user would reach."""
    expected = f"a number from {low} to {high}" if high is not None else f"a number from {low} on"
    rule = Rule(lambda value: low <= value <= (MOST if high is None else high), expected, remark=_about_size)
    return _field(default, rule, **_with(company))


def items(low: float | None = None) -> dict[str, Rule]:
    """Metadata of a list that is null or not empty, without repetitions: of texts, or of numbers from ``low`` on."""
    what = "texts" if low is None else f"whole numbers from {low} on"
    rule = Rule(
        lambda value: low is None or low <= value <= MOST,
        f"a list of {what}, each once, or null",
        together=lambda values: len(values) > 0 and len(values) == len(set(values)),
    )
    return {RULE: rule}


def above(low: float, high: float | None = None, *, default: Any, **company: Any) -> Any:
    """A number greater than ``low``, and at most ``high``."""
    expected = f"a number above {low}" + ("" if high is None else f", at most {high}")
    rule = Rule(lambda value: low < value <= (math.inf if high is None else high), expected)
    return _field(default, rule, **_with(company))


def path(default: Any, also: str | None = None, **company: Any) -> Any:
    """A folder or file: a local path, ``file:///`` or ``s3://``. ``~/`` is the home folder. ``also``: the beginning of
    addresses of another kind, ``gs://``."""
    metadata = {IS_PATH: True, **_with(company)}
    expected = "a local path, or s3://<bucket>/<folder>"
    rule = Rule(partial(_is_path, also=also), f"{expected} or {also}..." if also else expected, remark=_about_path)
    return _field(default, rule, **metadata)


def paths(least: int, what: str) -> dict[str, Any]:
    """Metadata of a list of folders, at least ``least``, each once; each as of ``path``."""
    rule = Rule(
        _is_path,
        f"{least} or more {what}: [first,second]",
        together=lambda values: len(values) >= least and len(values) == len(set(values)),
        remark=_about_path,
    )
    return {IS_PATH: True, RULE: rule}


def several(least: int, what: str) -> dict[str, Any]:
    """Metadata of a list of names that is null or holds at least ``least``, each once."""
    rule = Rule(
        _is_name,
        f"{least} or more {what}, each once: [first,second]",
        together=lambda values: len(values) >= least and len(values) == len(set(values)),
    )
    return {RULE: rule}


def name(default: Any, what: str = "a name") -> Any:
    """A name, which becomes a part of a path and must not lead elsewhere. A comma would be a list meant for a sweep."""
    expected = f"{what} without commas, '..', a slash at an end or control characters"
    return _field(default, Rule(_is_name, expected, remark=_about_list))


def device(default: Any) -> Any:
    """A device of torch."""
    rule = Rule(
        lambda text: bool(DEVICE.fullmatch(text)), "auto, cpu, cuda, cuda:<number>, mps or xpu", ("cuda", "cpu")
    )
    return _field(default, rule)


def address(default: Any) -> Any:
    """The URL of a service."""
    rule = Rule(
        lambda text: bool(re.match(r"https?://[^/\s]", text)), "an address that begins with http:// or https://"
    )
    return _field(default, rule)


def host(default: Any) -> Any:
    """The name or address of a machine, without scheme and port."""
    return _field(default, Rule(_is_host, "the name or address of a machine alone", advice=_host_and_port))


def some(default: Any, what: str, **company: Any) -> Any:
    """A text that is not empty."""
    return _field(default, Rule(lambda value: bool(value.strip()), what), **_with(company))


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


def _is_path(text: str, also: str | None = None) -> bool:
    if also is not None and text.startswith(also):
        return len(text) > len(also)
    plain = bool(text.strip()) and "\0" not in text and text not in NO_PATHS
    return plain and (SCHEME.match(text) is None or READ_SCHEMES.fullmatch(text) is not None)


def _about_size(key: str, number: float) -> str:
    return " This one is larger than the numbers of a computer." if number > MOST else ""


def _about_path(key: str, text: str) -> str:
    if text in NO_PATHS:
        return f" For a folder of this name, type {key}=./{text}."
    if re.match("file:", text, re.IGNORECASE):
        return " A local folder needs no file:, and after it three slashes: file:///<folder>."
    return ""


def _about_list(key: str, text: str) -> str:
    if "," not in text or text.startswith("["):
        return ""
    texts = ",".join(f'"{each.strip()}"' for each in text.split(","))
    return f" For one run each, type -m '{key}=[{texts}]'."


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
