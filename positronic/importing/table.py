"""A mapping as a table: what becomes of each field, what is believed of it, and why."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from positronic.importing.mapping import OPEN, PARAMETERS, ImportMapping, SignalMapping
from positronic.importing.propose import Proposal
from positronic.importing.source import Belief, FieldInfo

OPEN_STYLE, WEAK = "bold yellow", "dim"


def mapping_table(mapping: ImportMapping, fields: Mapping[str, FieldInfo]) -> Table:
    """A finished mapping."""
    return _table(mapping, fields, {}, {})


def proposal_table(proposal: Proposal, fields: Mapping[str, FieldInfo], unsupported: Mapping[str, str]) -> Group:
    """A proposal, whose open conventions stand out with what is believed and why. ``unsupported``: what of the
    recording is no field, and why."""
    reasons = {field: proposal.reasons.get(field, "") for field in proposal.mapping.left_out} | dict(unsupported)
    left = Table("left out", "why", title="Not imported", title_justify="left")
    for name, reason in reasons.items():
        left.add_row(name, reason)
    table = _table(proposal.mapping, fields, proposal.beliefs, proposal.reasons)
    return Group(table, left) if reasons else Group(table)


def _table(
    mapping: ImportMapping,
    fields: Mapping[str, FieldInfo],
    beliefs: Mapping[str, Belief],
    reasons: Mapping[str, str],
) -> Table:
    title = f"source={mapping.source} embodiment={mapping.embodiment}"
    table = Table(title=title, title_justify="left", show_lines=True)
    for name in ("raw signal", "from", "conventions"):
        table.add_column(name, overflow="fold")  # names are needed whole
    for key, signal in mapping.signals.items():
        source = Text("\n").join([Text(_said(field, fields.get(field))) for field in signal.fields])
        if key in reasons:
            source.append(f"\n{reasons[key]}", WEAK)
        table.add_row(key, source, _conventions(f"signals.{key}", signal, beliefs))
    for name in ("task", "task_from", "fps"):
        if getattr(mapping, name) is not None:
            table.add_row(name, "", _convention("", name, getattr(mapping, name), beliefs.get(name)))
    return table


def _said(field: str, info: FieldInfo | None) -> str:
    if info is None:
        return field
    shape = " x ".join(map(str, info.shape)) or "scalar"
    rate = f", {info.rate_hz:.4g} Hz" if info.rate_hz else ""
    return f"{field} ({shape}{rate})"


def _conventions(place: str, signal: SignalMapping, beliefs: Mapping[str, Belief]) -> Text:
    said = [(name, getattr(signal, name)) for name in PARAMETERS if getattr(signal, name) is not None]
    return Text("\n").join([_convention(place, name, value, beliefs.get(f"{place}.{name}")) for name, value in said])


def _convention(place: str, name: str, value: object, belief: Belief | None) -> Text:
    text = Text(f"{name}: ")
    if value not in (OPEN, (OPEN,)):
        text.append(shown(value))
        return text.append(f"  {belief.why}", WEAK) if belief else text
    if belief is None:
        return text.append("???", OPEN_STYLE)
    return text.append(f"??? {shown(belief.value)}?", OPEN_STYLE).append(f"  {belief.why}", WEAK)


def shown(value: object) -> str:
    """A value as one types it."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
