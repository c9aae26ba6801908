"""Statics of an episode: flat ``static.json``, with bytes as ``{"__bytes_b64__": ...}``."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError
from positronic.raw.faults import BadEpisode

BYTES_KEY = "__bytes_b64__"
ALLOWED = "str, int, float, bool, bytes, lists and dicts with str keys"


def encode_static(value: Any, where: str) -> Any:
    """A JSON value for ``value``. Raises PositronicError for anything but str, int, float, bool, bytes, list, dict;
    inside of lists and dicts there may be None."""
    if isinstance(value, bytes):
        return {BYTES_KEY: base64.b64encode(value).decode("ascii")}
    if isinstance(value, list | tuple):
        return [_encode_item(item, where) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _encode_item(item, f"{where}.{key}") for key, item in value.items()}
    if type(value) in (str, int, float, bool):
        _require_whole_characters(value, where)
        return value
    raise PositronicError(
        f"Static '{where}' holds {type(value).__name__}; statics are {ALLOWED}. Convert it first, e.g. with .item()."
    )


def _encode_item(value: Any, where: str) -> Any:
    return None if value is None else encode_static(value, where)


def _require_whole_characters(value: Any, where: str) -> None:
    """Refuse half of a surrogate pair at once: it cannot be written, and the end of the episode would be too late to
    say so."""
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        raise PositronicError(f"Static '{where}' holds half a character ({error}).") from None


def json_ready(value: Any) -> Any:
    """A JSON value for a value that was read. Like ``encode_static``, but nulls are allowed: newer recordings may hold
    them."""
    if isinstance(value, list):
        return [json_ready(item) for item in value]
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    return None if value is None else encode_static(value, "")


def decode_static(value: Any) -> Any:
    """What ``encode_static`` was given (tuples come back as lists). Raises ValueError for bytes that are not base64."""
    if isinstance(value, dict):
        if list(value) == [BYTES_KEY]:
            return base64.b64decode(str(value[BYTES_KEY]), validate=True)
        return {key: decode_static(item) for key, item in value.items()}
    return [decode_static(item) for item in value] if isinstance(value, list) else value


def read_statics(path: Path) -> dict[str, Any]:
    """Statics as recorded. Raises BadEpisode when the file is missing (the task would be lost silently) or is not a
    JSON object."""
    try:
        statics = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(statics, dict):
            return {key: decode_static(value) for key, value in statics.items()}
    except FileNotFoundError:
        raise BadEpisode(
            path.parent,
            f"{path.name} is missing, which every finished episode has. Copy it again; if nothing held throughout, "
            "write {} into it.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadEpisode(path.parent, f"{path.name} is not JSON ({error}).") from error
    raise BadEpisode(path.parent, f"{path.name} holds {type(statics).__name__}, an object was expected.")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """utf-8, indent 2, as published."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
