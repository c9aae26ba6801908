"""What openpi's server is asked, must answer, and must say of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.codecs.modality import Column
from positronic.conventions import require_equal
from positronic.errors import PositronicError
from positronic.vendors.openpi.spec import ACTIONS, spec
from positronic.vendors.openpi.wire import WHAT
from positronic.vendors.served import checked

NAME, MODEL, DTYPE = "name", "model", "dtype"  # of a spec; the last one is the server's own affair


@dataclass(frozen=True)
class Contract:
    """``said``: what a server must say of itself, as a spec; what it says beside is not compared. ``columns``: openpi's
    name -> column. ``steps``: of a chunk, exactly; None takes ``least_steps`` or more. ``action_size``: numbers of a
    step."""

    said: Mapping[str, Any]
    columns: Mapping[str, Column]
    task_key: str
    steps: int | None
    least_steps: int
    action_size: int

    @property
    def name(self) -> str:
        """Of the config."""
        return self.said[NAME]

    def require_same(self, whose: str, said: Mapping[str, Any]) -> None:
        """Raise ConventionError, both sides printed, unless ``said`` holds what this does."""
        ours, theirs = _flat(self.said), _flat(said)
        if self.steps is None and not theirs:  # openpi's own script, started by somebody, says nothing
            return
        hint = "They are of two trainings, or of two configs: serve the checkpoint as it was trained."
        known = {name: value for name, value in theirs.items() if name in ours}
        require_equal("the checkpoint's recipe", ours, whose, known, hint)

    def observation(self, seen: Mapping[str, Any]) -> dict[str, Any]:
        """The modality's columns and the task, by openpi's names.

        Raises PositronicError for what openpi would take without a word: another shape or type, and what is no number.
        """
        asked = {name: _checked(column, seen.get(column.name)) for name, column in self.columns.items()}
        return asked | {keys.OPENPI_PROMPT: str(seen[self.task_key])}

    def chunk(self, answer: Mapping[str, Any]) -> NDArray[np.float32]:
        """(H, A). Raises PositronicError for another shape, and what is no number."""
        found = answer.get(ACTIONS)
        steps = self.steps
        if steps is None:
            steps = max(self.least_steps, np.shape(found)[0] if np.ndim(found) else 0)
        return checked(found, (steps, self.action_size), WHAT, ACTIONS)

    def nothing_seen(self) -> dict[str, Any]:
        """Black pictures, and a state of zeros."""
        seen = {column.name: np.zeros(column.shape, column.dtype) for column in self.columns.values()}
        return self.observation(seen | {self.task_key: "warm up"})


def trained_contract(recipe: Recipe, policy: Mapping[str, Any]) -> Contract:
    """Of a checkpoint that was trained from here. ``policy``: every field that it was trained with."""
    said = json.loads(json.dumps(spec(recipe, policy, "")))
    named = {column.name: column for column in recipe.modality.observation_columns}
    columns = {name: named[column] for name, column in said["columns"].items() if column in named}
    steps = recipe.modality_config.action_chunk
    return Contract(said, columns, recipe.modality.task_key, steps, steps, said["action_size"])


def pretrained_contract(recipe: Recipe, name: str) -> Contract:
    """Of a checkpoint of openpi's own, for its config ``name``: the modality's columns are called as openpi does."""
    modality, codec = recipe.modality, recipe.codec
    columns = {column.name: column for column in modality.observation_columns}
    played = len(codec.timing.timestamps(recipe.modality_config.action_chunk))
    return Contract({NAME: name}, columns, modality.task_key, None, played, codec.action_size)


def _checked(column: Column, value: Any) -> NDArray[Any]:
    """Of the column's shape and type, and finite."""
    if not isinstance(value, np.ndarray) or (value.shape, str(value.dtype)) != (column.shape, column.dtype):
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise PositronicError(f"'{column.name}': expected {column.dtype} {column.shape}, found {found}.")
    if not column.is_image and not np.isfinite(value).all():
        raise PositronicError(f"'{column.name}': expected finite numbers, found {value.tolist()}.")
    return value


def _flat(described: Mapping[str, Any]) -> dict[str, str]:
    """What must agree, for people."""
    model = described.get(MODEL)
    flat = {name: value for name, value in described.items() if name != MODEL}
    flat |= {f"{MODEL}.{name}": value for name, value in (model if isinstance(model, Mapping) else {}).items()}
    return {name: str(value) for name, value in flat.items() if name != f"{MODEL}.{DTYPE}"}
