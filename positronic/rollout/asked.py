"""What a folder of recordings was asked for, so that a later run continues it only with the same settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from positronic import keys
from positronic.conventions import differences
from positronic.errors import PositronicError
from positronic.rollout.recorder import flat
from positronic.utils.command_line import RESUME

POLICY_IS = (
    keys.META_TYPE,
    keys.META_VENDOR,
    keys.META_EXPERIMENT,
    keys.META_CHECKPOINT_ID,
    keys.META_CODEC,
    keys.META_ACTION_FPS,
    keys.META_ACTION_HORIZON_SEC,
)
"""What tells policies apart; where they lie and who serves them does not."""


def require_same(place: object, recorded: Mapping[str, Any], asked: Mapping[str, Any], did: str) -> None:
    """Raise PositronicError, with both sides of each difference, when ``place`` was ``did`` with other settings.

    ``recorded``, ``asked``: maps within maps, JSON-ready.
    """
    rows = differences(dict(flat(recorded)), dict(flat(json.loads(json.dumps(asked)))))
    if rows:
        lines = [f"  {name}: the folder has {theirs}; this run has {ours}" for name, theirs, ours in rows]
        head = f"{RESUME}, but {place} was {did} with other parameters:"
        raise PositronicError(
            "\n".join([head, *lines, f"Type the folder's, or record elsewhere, e.g. output_dir={place}_2."])
        )
