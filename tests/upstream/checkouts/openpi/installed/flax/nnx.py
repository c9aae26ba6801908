"""Filters of parameters, as values that are compared and printed."""

from dataclasses import dataclass
from typing import Any


class Nothing:
    """The filter that takes nothing."""


class Param:
    """The kind of variable that is trained."""


@dataclass(frozen=True)
class Not:
    filter: Any


class All:
    def __init__(self, *filters: Any) -> None:
        self.filters = filters
