"""Positronic: one raw recording, any robot policy.

The names below are all that a notebook or a script needs; ``docs/python.md`` shows them at work. Each is imported when
it is first asked for: the robot-side client must not need Hydra, and nothing here needs torch before a policy does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from positronic.api import codec, load_policy, open_baked, record, run
    from positronic.config import compose
    from positronic.errors import PositronicError
    from positronic.raw.dataset import open_dataset as open_raw

__version__ = "0.1.0"

_PLACES = {
    "PositronicError": "positronic.errors:PositronicError",
    "codec": "positronic.api:codec",
    "compose": "positronic.config:compose",
    "load_policy": "positronic.api:load_policy",
    "open_baked": "positronic.api:open_baked",
    "open_raw": "positronic.raw.dataset:open_dataset",
    "record": "positronic.api:record",
    "run": "positronic.api:run",
}

__all__ = [
    "PositronicError",
    "__version__",
    "codec",
    "compose",
    "load_policy",
    "open_baked",
    "open_raw",
    "record",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'positronic' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    globals()[name] = getattr(importlib.import_module(module), attribute)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
