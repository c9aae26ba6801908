"""``edits.jsonl``: later changes of statics, and dropped episodes. They are applied in order while reading; the last
one wins.

Each line is one JSON object: ``{"op": "set_static", "v": 1, "ep": uid, "data": {...}}``, or op ``drop`` / ``undrop``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError, did_you_mean
from positronic.raw.layout import EDITS_FILE
from positronic.raw.statics import decode_static, json_ready

SET_STATIC = "set_static"
DROP = "drop"
UNDROP = "undrop"
OPERATIONS = (SET_STATIC, DROP, UNDROP)
VERSION = 1


@dataclass(frozen=True)
class Edits:
    """Net effect of an edit log: statics to set by episode uid, and the uids that are dropped."""

    statics: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    @property
    def names_episodes(self) -> bool:
        """Whether it matters which uid an episode has."""
        return bool(self.statics or self.dropped)

    def digest(self) -> str:
        """sha256 (hex) over what they say."""
        statics = {uid: {key: json_ready(value) for key, value in each.items()} for uid, each in self.statics.items()}
        return hashlib.sha256(json.dumps([statics, sorted(self.dropped)], sort_keys=True).encode()).hexdigest()


NO_EDITS = Edits()


def read_edits(root: Path) -> Edits:
    """The edits of a dataset; none without the file. Raises PositronicError, with file:line, for a wrong line."""
    path = root / EDITS_FILE
    if not path.exists():
        return NO_EDITS
    try:
        return parse_edits(path.read_bytes(), str(path))
    except OSError as error:
        raise PositronicError(
            f"{path} cannot be read ({error}). Mend it, or move it away to read all episodes."
        ) from error


def parse_edits(content: bytes, where: str) -> Edits:
    """What ``edits.jsonl`` says. Raises PositronicError, with ``where`` and the line, for a wrong line."""
    statics: dict[str, dict[str, Any]] = {}
    dropped: set[str] = set()
    for number, line in enumerate(content.split(b"\n"), start=1):  # a text may hold other ends of lines
        if line.strip():
            _apply(_parse(line, f"{where}:{number}"), statics, dropped)
    return Edits(statics, frozenset(dropped))


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        edit = decode_static(json.loads(line.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise PositronicError(f"{where}: not JSON ({error}). Mend or delete the line.") from error
    if not isinstance(edit, dict):
        raise PositronicError(f"{where}: a JSON object was expected, got {type(edit).__name__}.")
    if edit.get("op") not in OPERATIONS:
        hint = did_you_mean(str(edit.get("op")), OPERATIONS)
        raise PositronicError(f"{where}: unknown op {edit.get('op')!r}; known are {', '.join(OPERATIONS)}.{hint}")
    if edit.get("v") != VERSION:
        raise PositronicError(f"{where}: edit version {edit.get('v')!r}; this reader knows {VERSION}.")
    if not isinstance(edit.get("ep"), str):
        raise PositronicError(f"{where}: 'ep' must be an episode's uid (see uid in meta.json), got {edit.get('ep')!r}.")
    if edit["op"] == SET_STATIC and not isinstance(edit.get("data"), dict):
        raise PositronicError(f"{where}: '{SET_STATIC}' needs 'data', an object of statics, got {edit.get('data')!r}.")
    return edit


def _apply(edit: dict[str, Any], statics: dict[str, dict[str, Any]], dropped: set[str]) -> None:
    uid = edit["ep"]
    if edit["op"] == SET_STATIC:
        statics.setdefault(uid, {}).update(edit["data"])
    elif edit["op"] == DROP:
        dropped.add(uid)
    else:
        dropped.discard(uid)
