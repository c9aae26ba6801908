"""What a client is not told: where things are on the server's machine, and tracebacks. The log has them."""

from __future__ import annotations

import re

TRACEBACK = "Traceback (most recent call last)"
HIDDEN = "…/"
_BEGIN = r"(?<![^\s'\"`(\[{<=,:;|])"  # a path stands at the beginning of a word; m/s is none
_ROOT = r"(?:[A-Za-z][A-Za-z0-9+.-]*://|~/|/(?!/)|[A-Za-z]:\\)"
_QUOTED = re.compile(rf"(['\"`])({_ROOT}[^'\"`\n]*)\1")
_BARE = re.compile(rf"{_BEGIN}{_ROOT}[^\s'\"`,;()\[\]{{}}<>|]+")


_places: dict[str, str] = {}  # what this process serves from, and what clients are told instead


def hide(place: str) -> None:
    """Clients are told only the last part of this path, also if it is relative or has spaces."""
    if place.strip("./\\"):
        _places[place] = _last(place)


def told(reason: str) -> str:
    """``reason`` for a client: of each path and URL only its last part, of a traceback only its last line."""
    for place, instead in _places.items():
        reason = reason.replace(place, instead)
    said = _QUOTED.sub(lambda found: f"{found[1]}{_last(found[2])}{found[1]}", _without_traceback(reason))
    return _BARE.sub(lambda found: _last(found[0]), said)


def _without_traceback(reason: str) -> str:
    before, found, after = reason.partition(TRACEBACK)
    if not found:
        return reason
    error = after.strip().rpartition("\n")[2]
    return f"{before}{error}".strip()


def _last(path: str) -> str:
    end = re.search(r"[.:]*$", path)
    name = re.split(r"[/\\]", path[: end.start() if end else None].rstrip("/\\"))[-1]
    return f"{HIDDEN}{name}{end[0] if end else ''}"
