"""A mapping to begin with. What decides how a robot moves stays ``???`` unless the recording itself says it.

What is believed of an open convention stands beside it with the reason; it becomes the mapping's when somebody agrees.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from positronic.embodiments.embodiment import Embodiment
from positronic.errors import listing
from positronic.importing import quantities as q
from positronic.importing.drafts import Draft, drafts
from positronic.importing.mapping import OPEN, ROTATIONS, ImportMapping, SignalMapping
from positronic.importing.quantities import Quantity
from positronic.importing.source import IMAGE, TEXT, Belief, FieldInfo
from positronic.importing.words import TASK_WORDS, words

Fields = Mapping[str, FieldInfo]

IDENTITY = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
FULL_TURN = 2 * math.pi
IN_BASE = Belief(IDENTITY, "poses are mostly relative to the robot's base; nothing says so here")


@dataclass(frozen=True)
class Proposal:
    """``beliefs``: place in the mapping (``signals.grip.open``, ``fps``) -> what is believed there, known or not.
    ``reasons``: raw key, or field that is left out -> why."""

    mapping: ImportMapping
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def remarks(self) -> dict[str, str]:
        """Place -> what to write beside it in a file."""
        said = {place: _remark(belief) for place, belief in self.beliefs.items() if not belief.known}
        return said | {f"signals.{key}": self.reasons[key] for key in self.mapping.signals}

    def agreed(self) -> ImportMapping:
        """The mapping with everything that is believed."""
        mapping = self.mapping
        for place in mapping.undecided:
            if place in self.beliefs:
                mapping = with_value(mapping, place, self.beliefs[place].value)
        return mapping


def with_value(mapping: ImportMapping, place: str, value: Any) -> ImportMapping:
    """The mapping with ``value`` at ``signals.grip.open``, ``fps``, ..."""
    if "." not in place:
        return replace(mapping, **{place: value})
    key, _, name = place.removeprefix("signals.").rpartition(".")
    return replace(mapping, signals={**mapping.signals, key: replace(mapping.signals[key], **{name: value})})


def propose(source: str, fields: Fields, embodiment: Embodiment, has_task: bool) -> Proposal:
    """A mapping of ``fields`` to the raw signals of the robot. ``has_task``: whether episodes say their instruction."""
    chosen, reasons = _choose(drafts(fields, embodiment))
    signals, beliefs = {}, {}
    for key in (key for key in q.keys_of(embodiment) if key in chosen):
        signal, believed = _signal(chosen[key], q.quantity_of(key, embodiment), fields)
        signals[key] = signal
        beliefs |= {f"signals.{key}.{name}": belief for name, belief in believed.items()}
        reasons[key] = chosen[key].why
    fps, believed_fps = _fps(fields, signals)
    task_from = None if has_task else _task_field(fields)
    used = {name for signal in signals.values() for name in signal.fields} | {task_from}
    left_out = tuple(name for name in fields if name not in used)
    reasons |= {name: reasons.get(name) or _why_left_out(name, fields[name], embodiment) for name in left_out}
    mapping = ImportMapping(source, embodiment.name, signals, None, task_from, fps, left_out)
    return Proposal(mapping, beliefs | believed_fps, reasons)


def _choose(found: list[Draft]) -> tuple[dict[str, Draft], dict[str, str]]:
    """The surest draft of each raw signal. Of two that are as sure, none, and the reason beside both fields."""
    by_key: dict[str, list[Draft]] = defaultdict(list)
    for draft in found:
        by_key[draft.key].append(draft)
    chosen, reasons = {}, {}
    for key, all_of_it in by_key.items():
        best = max(draft.sureness for draft in all_of_it)
        surest = [draft for draft in all_of_it if draft.sureness == best]
        if len(surest) == 1:
            chosen[key] = surest[0]
            continue
        names = [name for draft in surest for name in draft.fields]
        reasons |= dict.fromkeys(names, f"{listing(names)} could each be {key}: map the one that is")
    return chosen, reasons


def _signal(draft: Draft, quantity: Quantity, fields: Fields) -> tuple[SignalMapping, dict[str, Belief]]:
    infos = [fields[name] for name in draft.fields]
    stated: dict[str, Belief] = {}
    for info in reversed(infos):
        stated |= dict(info.believed)
    believed = CONVENTIONS_OF[quantity.kind](draft, quantity, infos, stated)
    believed |= {name: stated[name] for name in ("clock", "channels") if name in stated and _counts(name, quantity)}
    if not draft.is_ordered:
        order = ", ".join(quantity.arm.joints) if quantity.kind in (q.JOINTS, q.SPEEDS) else "the gripper"
        believed["dims"] = Belief(draft.dims, f"in the robot's order: {order}; the numbers have no names")
    known = {name: belief.value for name, belief in believed.items() if belief.known}
    values = {name: known.get(name, (OPEN,) if name in ("dims", "base") else OPEN) for name in believed}
    needed = dict.fromkeys(q.NEEDED[quantity.kind], OPEN)
    return SignalMapping(draft.fields, **({"dims": draft.dims} | needed | values)), believed


def _counts(name: str, quantity: Quantity) -> bool:
    return name in (*q.ALLOWED[quantity.kind], *q.ANY)


def _angles(draft: Draft, quantity: Quantity, infos: list[FieldInfo], stated: dict[str, Belief]) -> dict[str, Belief]:
    return {"unit": stated["unit"]} if "unit" in stated else _unit_by_range(draft, quantity, infos[0])


def _unit_by_range(draft: Draft, quantity: Quantity, info: FieldInfo) -> dict[str, Belief]:
    if not info.low or quantity.kind == q.SPEEDS:
        return {}
    low, high = _ends(draft, info)
    if max(-low, high) > FULL_TURN:
        return {"unit": Belief("degrees", f"they go from {low:.3g} to {high:.3g}, too far for rad")}
    return {"unit": Belief("rad", f"they go from {low:.3g} to {high:.3g}, which fits rad")}


def _gripper(draft: Draft, quantity: Quantity, infos: list[FieldInfo], stated: dict[str, Belief]) -> dict[str, Belief]:
    if {"open", "closed"} <= set(stated):
        return {name: stated[name] for name in ("open", "closed")}
    gripper, info = quantity.arm.gripper, infos[0]
    if not info.low:
        return {}
    low, high = _ends(draft, info)
    first, last = sorted((gripper.open, gripper.closed))
    slack = 0.1 * (last - first)
    if not (first - slack <= low and high <= last + slack and high - low > slack):
        return {}
    why = f"the robot's own software says so, and the recording goes from {low:.3g} to {high:.3g}"
    return {"open": Belief(gripper.open, why), "closed": Belief(gripper.closed, why)}


def _pose(draft: Draft, quantity: Quantity, infos: list[FieldInfo], stated: dict[str, Belief]) -> dict[str, Belief]:
    believed = {"base": stated.get("base", IN_BASE)}
    if draft.rotation is not None:
        believed["rotation"] = Belief(draft.rotation, "the numbers' names say so", known=True)
    elif "rotation" in stated:
        believed["rotation"] = stated["rotation"]
    elif sum(info.size for info in infos) == 3 + ROTATIONS["matrix"]:
        believed["rotation"] = Belief("matrix", "nine numbers beside the position")
    if "unit" in stated:
        believed["unit"] = stated["unit"]
    elif infos[0].low:
        reach = max(map(abs, (*infos[0].low[:3], *infos[0].high[:3])))
        unit = "m" if reach < 3 else "mm" if reach > 50 else "cm"
        believed["unit"] = Belief(unit, f"the position is up to {reach:.3g} away")
    return believed


def _nothing(draft: Draft, quantity: Quantity, infos: list[FieldInfo], stated: dict[str, Belief]) -> dict[str, Belief]:
    return {}


CONVENTIONS_OF: Mapping[str, Callable[..., dict[str, Belief]]] = {
    q.JOINTS: _angles,
    q.SPEEDS: _angles,
    q.GRIPPER: _gripper,
    q.POSE: _pose,
    q.CAMERA: _nothing,
}


def _ends(draft: Draft, info: FieldInfo) -> tuple[float, float]:
    """The extremes of the numbers that are taken."""
    dims = range(len(info.low)) if draft.dims is None else draft.dims
    places = [dim if isinstance(dim, int) else info.names.index(dim) for dim in dims]
    return min(info.low[place] for place in places), max(info.high[place] for place in places)


def _fps(fields: Fields, signals: Mapping[str, SignalMapping]) -> tuple[float | str | None, dict[str, Belief]]:
    """The rate of recordings that have no stamps; None where each field has its own."""
    used = [fields[name] for signal in signals.values() for name in signal.fields]
    if not used or all(info.rate_hz for info in used):
        return None, {}
    stated = next((info.believed["fps"] for info in used if "fps" in info.believed), None)
    known = stated is not None and stated.known
    return stated.value if known else OPEN, {} if stated is None else {"fps": stated}


def _task_field(fields: Fields) -> str | None:
    found = [name for name, info in fields.items() if info.kind == TEXT and TASK_WORDS & set(words(name))]
    return found[0] if len(found) == 1 else None


def _why_left_out(name: str, info: FieldInfo, embodiment: Embodiment) -> str:
    if info.kind == IMAGE:
        return f"no camera of embodiment={embodiment.name} ({listing(embodiment.cameras)}) is called like it"
    if info.kind == TEXT:
        return "a text"
    if info.names and any(word in words(each) for each in info.names for word in ("delta",)):
        return "changes of a pose, which are no command by themselves"
    if info.names and info.size > 1:
        return f"its numbers ({listing(info.names, 7)}) are not called like those of embodiment={embodiment.name}"
    return f"no raw signal of embodiment={embodiment.name} by its name and size"


def _remark(belief: Belief) -> str:
    value = list(belief.value) if isinstance(belief.value, tuple) else belief.value
    value = f"{value:g}" if isinstance(value, float) else value
    return f"believed: {value}, as {belief.why}"
