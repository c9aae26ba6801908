"""What a client states of its robot when it opens a session, compared with what the checkpoint needs.

A client need not state anything; what it does not state is not compared. It states it in a header: servers of this
protocol ignore headers that they do not know, and refuse unknown words in an address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from positronic import conventions, keys
from positronic.codecs.build import Recipe
from positronic.embodiments.embodiment import differing_rows
from positronic.errors import PositronicError, clipped, listing

CAMERA = "camera "
EXPECTED = (
    f"Header {keys.HEADER_ROBOT}: expected JSON, a map with '{keys.META_ROBOT}' and '{keys.META_CONVENTIONS}' as maps "
    f"of text and '{keys.STATED_COMMANDS}' as a list of text, found {{}}."
)
MAX_SHOWN = 200


def read_stated(header: str | None) -> Mapping[str, Any]:
    """What a client states; empty if it states nothing. Raises PositronicError for what means nothing."""
    if header is None:
        return {}
    try:
        said = json.loads(header)
    except (ValueError, RecursionError):
        said = None
    if not _is_stated(said):
        raise PositronicError(EXPECTED.format(clipped(header, MAX_SHOWN)))
    return said


def _is_stated(said: Any) -> bool:
    if not isinstance(said, dict):
        return False
    robot, signals = said.get(keys.META_ROBOT, {}), said.get(keys.META_CONVENTIONS, {})
    commands = said.get(keys.STATED_COMMANDS, [])
    if not (isinstance(robot, dict) and isinstance(signals, dict) and isinstance(commands, list)):
        return False
    return all(isinstance(text, str) for text in (*robot.values(), *signals.values(), *commands))


def require_fit(checkpoint_id: str, recipe: Recipe, stated: Mapping[str, Any]) -> None:
    """Raise PositronicError, a sentence with both sides, if what is ``stated`` contradicts what a checkpoint needs."""
    problems = [
        *_robot_problems(recipe, stated.get(keys.META_ROBOT)),
        *_signal_problems(recipe, stated.get(keys.META_CONVENTIONS, {})),
        *_command_problems(recipe, stated.get(keys.STATED_COMMANDS)),
    ]
    if problems:
        raise PositronicError(
            f"Checkpoint {checkpoint_id} does not fit the robot that this client states: {'; '.join(problems)}."
        )


def _robot_problems(recipe: Recipe, stated: Mapping[str, str] | None) -> list[str]:
    """In the words of ``Embodiment.contract``. A camera that is not stated may be there."""
    if stated is None:
        return []
    needed = recipe.codec.robot
    quantities = {_quantity(row) for row in needed}
    theirs = {row: value for row, value in stated.items() if row in needed or _quantity(row) in quantities}
    rows = [each for each in differing_rows(needed, theirs) if not each[0].startswith(CAMERA) or each[0] in theirs]
    return [f"{row}: the checkpoint has {mine}, the robot {found}" for row, mine, found in rows]


def _quantity(row: str) -> str:
    return row.rpartition(": ")[2]


def _signal_problems(recipe: Recipe, stated: Mapping[str, str]) -> list[str]:
    read = {feature.signal for feature in recipe.codec.state}
    meant = {signal: conventions.MEASURED.get(keys.split_arm(signal)[0]) for signal in stated if signal in read}
    return [
        f"'{signal}': the checkpoint reads {expected}, the robot means {stated[signal]}"
        for signal, expected in meant.items()
        if expected is not None and str(expected) != stated[signal]
    ]


def _command_problems(recipe: Recipe, stated: list[str] | None) -> list[str]:
    types = [feature.part.command_type for feature in recipe.codec.action]
    lacking = {each.kind for each in types if each is not None} - set(stated or [])
    if stated is None or not lacking:
        return []
    return [f"the checkpoint commands {listing(sorted(lacking))}, the robot takes {listing(stated)}"]
