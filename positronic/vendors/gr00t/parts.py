"""The parts of GR00T's state and action: one of the state is a column, one of the action is the quantity of an arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from positronic.codecs.build import Recipe
from positronic.codecs.features import VectorFeature
from positronic.codecs.modality import Column
from positronic.errors import PositronicError, listing


@dataclass(frozen=True)
class ActionPart:
    """``columns``: its place in the action. ``is_relative``: a label is what it is beyond the state's part of this
    name."""

    name: str
    columns: slice
    is_relative: bool


def state_columns(recipe: Recipe) -> list[Column]:
    """The parts of the state, in the order in which they are joined."""
    return [column for column in recipe.modality.vector_columns if not column.is_action]


def action_parts(recipe: Recipe) -> list[ActionPart]:
    """The parts of the action, in the order of its numbers.

    Raises PositronicError for a relative part that the state does not have.
    """
    parts, start = [], 0
    for feature in recipe.codec.action:
        stop = start + feature.shape[0]
        is_relative = recipe.modality_config.relative_actions and not feature.part.is_gripper
        if is_relative:
            _require_in_state(recipe, feature)
        parts.append(ActionPart(part_name(feature), slice(start, stop), is_relative))
        start = stop
    return parts


def part_name(feature: VectorFeature) -> str:
    """What a part of the action is called: the name of the state's column of that quantity and arm."""
    part = feature.part
    return f"{part.arm.name}_{part.name}" if part.arm.name else part.name


def _require_in_state(recipe: Recipe, feature: VectorFeature) -> None:
    wanted, there = part_name(feature), {column.name: column for column in state_columns(recipe)}
    if wanted not in there or _elements(there[wanted].sources) != _elements([feature]):
        raise PositronicError(
            f"modality.relative_actions=true: the action's part '{wanted}' would be relative to a state column of "
            f"this name and layout; codec={recipe.codec.name} has {listing(there)}. Choose a codec whose state has it, "
            "or leave modality.relative_actions out."
        )


def _elements(features: Sequence[VectorFeature]) -> list[str]:
    return [name for feature in features for name in feature.part.element_names]
