"""Asks a person about each convention that a proposal leaves open, once for all places where it is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from yaml import YAMLError, safe_load

from positronic.errors import PositronicError
from positronic.importing.mapping import OPEN, ImportMapping, from_dict, to_yaml
from positronic.importing.propose import Proposal, with_value
from positronic.importing.source import Belief
from positronic.importing.table import shown

DROP = "-"
YES = ("", "y", "yes")
Read = Callable[[str], str]
"""Shows a prompt and gives what is typed."""
Faults = Callable[[ImportMapping], list[str]]
"""What is wrong with a mapping, a sentence each."""


class Question(NamedTuple):
    """One convention, with what is believed of it, in all places of the mapping where that is the same."""

    name: str
    places: tuple[str, ...]
    belief: Belief | None

    @property
    def keys(self) -> list[str]:
        """The raw signals that it is about; none for the mapping's own values."""
        return [place.removeprefix("signals.").rpartition(".")[0] for place in self.places if "." in place]

    def prompt(self) -> str:
        """What is shown."""
        of = f" of {', '.join(self.keys)}" if self.keys else ""
        if self.belief is None:
            leave = f"a value, or {DROP} to leave it out" if self.keys else "a value"
            return f"{self.name}{of}: nothing is known of it; type {leave}: "
        leave = f", another value, or {DROP} to leave it out" if self.keys else ", or another value"
        return f"{self.name}{of}: {shown(self.belief.value)}? ({self.belief.why}; Enter for yes{leave}): "


def questions(proposal: Proposal, mapping: ImportMapping) -> list[Question]:
    """What is still open in ``mapping``."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for place in mapping.undecided:
        belief = proposal.beliefs.get(place)
        alone = belief is None or place.endswith(".dims")
        key = (place.rpartition(".")[2], place if alone else None, belief and (shown(belief.value), belief.why))
        found.setdefault(key, []).append(place)
    return [Question(key[0], tuple(places), proposal.beliefs.get(places[0])) for key, places in found.items()]


def ask(proposal: Proposal, faults: Faults, read: Read, say: Callable[[str], None]) -> ImportMapping:
    """The proposal's mapping with the answers. ``say``: shows what is wrong with an answer, which is asked again."""
    mapping = proposal.mapping
    while pending := questions(proposal, mapping):
        answered = _answered(mapping, pending[0], read(pending[0].prompt()).strip(), say)
        new = [fault for fault in faults(answered) if fault not in faults(mapping) and OPEN not in fault]
        for fault in new:
            say(fault)
        mapping = mapping if new else answered
    return mapping


def _answered(mapping: ImportMapping, question: Question, answer: str, say: Callable[[str], None]) -> ImportMapping:
    if answer == DROP and question.keys:
        return _without(mapping, question.keys)
    if answer.lower() in YES:
        if question.belief is None:
            say("A value is needed.")
            return mapping
        return _with_values(mapping, question.places, question.belief.value)
    try:
        return _checked(_with_values(mapping, question.places, _value(question.name, answer)))
    except (PositronicError, YAMLError) as error:
        say(" ".join(str(error).split()))
        return mapping


def _value(name: str, answer: str) -> Any:
    value = safe_load(answer)
    if name in ("dims", "base"):
        if not isinstance(value, list):
            raise PositronicError(f"{name}: expected [<first>, ...], found {answer}.")
        return tuple(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _checked(mapping: ImportMapping) -> ImportMapping:
    """By the rules of a file."""
    return from_dict(safe_load(to_yaml(mapping)), "answer")


def _with_values(mapping: ImportMapping, places: Iterable[str], value: Any) -> ImportMapping:
    for place in places:
        mapping = with_value(mapping, place, value)
    return mapping


def _without(mapping: ImportMapping, keys: Iterable[str]) -> ImportMapping:
    """Without these signals; fields that no other signal needs are left out."""
    signals = {key: signal for key, signal in mapping.signals.items() if key not in keys}
    needed = {field for signal in signals.values() for field in signal.fields}
    dropped = dict.fromkeys(_fields_of(mapping, keys))
    left_out = (*mapping.left_out, *(field for field in dropped if field not in needed))
    return replace(mapping, signals=signals, left_out=left_out)


def _fields_of(mapping: ImportMapping, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        yield from mapping.signals[key].fields
