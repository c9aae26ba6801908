"""What must not be written beside results: the values of keys that hold a secret, and the overrides that set them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

SECRETS = ("token",)
HIDDEN = "..."
_NAMES = "|".join(SECRETS)
_INSIDE = re.compile(rf"(\b(?:{_NAMES})\s*:\s*)(?!null\b)(?:'[^']*'|\"[^\"]*\"|[^,{{}}]+)")  # server={token: abc}


def secrets_in(value: Any) -> Iterator[str]:
    """Every secret in ``value``, which is made of dicts, lists and plain values."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        if name in SECRETS and child:
            yield str(child)
        yield from secrets_in(child)


def without_secrets(value: Any, known: Collection[str] = ()) -> Any:
    """``value`` with ``...`` for each secret, in typed overrides too. ``known``: secrets that a text may hold."""
    if isinstance(value, dict):
        return {k: HIDDEN if k in SECRETS and v else without_secrets(v, known) for k, v in value.items()}
    if isinstance(value, list):
        return [without_secrets(item, known) for item in value]
    return _without_secret(value, known) if isinstance(value, str) else value


def _without_secret(text: str, known: Collection[str]) -> str:
    for secret in known:  # ``a=1,server.token=abc,b=2``: a name made of overrides
        text = re.sub(rf"\b({_NAMES})=(['\"]?){re.escape(secret)}\2(?=,|$)", rf"\1={HIDDEN}", text)
    key, _, typed = text.partition("=")
    if key.rpartition(".")[2] in SECRETS and not typed.startswith(HIDDEN):
        return f"{key}={HIDDEN}"
    return _INSIDE.sub(rf"\g<1>{HIDDEN}", text)
