"""A filter by a path's name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PathRegex:
    pattern: str
    sep: str = "/"
