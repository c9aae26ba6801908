"""The vision tower's variants."""

from typing import Any


def decode_variant(variant: str | None) -> dict[str, Any]:
    return {} if variant is None else {"variant": variant}
