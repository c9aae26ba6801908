"""How a stage comes to a mapping that somebody has agreed to: told, stated by the recording, or proposed and shown."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, listing
from positronic.importing.asking import YES, ask
from positronic.importing.check import problems
from positronic.importing.mapping import OPEN, ImportMapping, read_mapping, read_text, to_yaml
from positronic.importing.propose import Proposal, propose
from positronic.importing.source import Source
from positronic.importing.table import mapping_table, proposal_table
from positronic.utils.command_line import again
from positronic.utils.files import numbered, replace_text
from positronic.utils.provenance import ROOT

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Asked:
    """What a stage was told of the mapping. ``source``: the recordings' format. ``mapping``: a file, None if none was
    typed. ``saved``: where an earlier run keeps its mapping, and the text. ``agree``: take what is believed. ``task``,
    ``fps``: what is typed wins. ``draft``: name of the file for a proposal, without its end. ``question``: the last one
    before anything is done, which is ``done``. ``mapping_key``, ``agree_key``: what the two parameters are called."""

    source: str
    mapping: str | None
    saved: tuple[str, bytes] | None
    agree: bool
    draft: str
    question: str
    done: str
    task: str | None = None
    fps: float | None = None
    mapping_key: str = "mapping"
    agree_key: str = "agree"


def known_robot(typed: Embodiment | None, source: Source) -> Embodiment:
    """The one that was typed, or that the recording states. Raises PositronicError when neither says it."""
    robot = typed or getattr(source, "embodiment", None)
    if robot is None:
        known = listing(path.stem for path in (ROOT / "conf" / "embodiment").glob("*.yaml"))
        raise PositronicError(
            "Which robot was recorded? Nothing in the recording says so. Type embodiment=<name>, one of "
            f"{known.replace('from_data, ', '')} or your own (docs/importing.md)."
        )
    return robot


def agreed_mapping(asked: Asked, source: Source, robot: Embodiment, console: Console) -> tuple[ImportMapping, str]:
    """The mapping, and what messages call it: the file that was typed, the one that is saved, what the recording
    states, or what a person has agreed to. It is shown.

    Raises PositronicError when nobody has agreed (then the proposal is saved, to be edited), and for a mapping of
    another format.
    """
    told = _told(asked, source, robot)
    if told is None:
        return _agreed(asked, source, robot, console), "that was proposed"
    mapping, where = told
    if mapping.source not in (OPEN, asked.source):
        raise PositronicError(
            f"The mapping {where} is of source: {mapping.source}, found source={asked.source}. Type "
            f"source={mapping.source}, or another {asked.mapping_key}=."
        )
    mapping = _typed(asked, mapping)
    console.print(mapping_table(mapping, source.fields()))
    return mapping, where


def _told(asked: Asked, source: Source, robot: Embodiment) -> tuple[ImportMapping, str] | None:
    if asked.mapping is not None:
        return read_mapping(Path(asked.mapping), asked.mapping_key), asked.mapping
    if asked.saved is not None:
        where, content = asked.saved
        return read_text(content.decode(errors="replace"), where), where
    stated = source.stated(robot)
    return None if stated is None else (stated, "that the recording states")


def _typed(asked: Asked, mapping: ImportMapping) -> ImportMapping:
    """What is typed on the command line wins."""
    values = {name: getattr(asked, name) for name in ("task", "fps") if getattr(asked, name) is not None}
    return replace(mapping, **values)


def _agreed(asked: Asked, source: Source, robot: Embodiment, console: Console) -> ImportMapping:
    """The proposal, once somebody has agreed to it."""
    has_task = asked.task is not None or source.episodes()[0].task is not None
    proposal = propose(asked.source, source.fields(), robot, has_task)
    proposal = replace(proposal, mapping=_typed(asked, proposal.mapping))
    console.print(proposal_table(proposal, source.fields(), getattr(source, "unsupported", {})))
    if asked.agree:
        agreed = proposal.agreed()
        return agreed if not agreed.undecided else _refuse_to_guess(asked, replace(proposal, mapping=agreed))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return _refuse_to_guess(asked, proposal)
    read, say = partial(console.input, markup=False), partial(console.print, markup=False)  # lists are no tags
    try:
        mapping = ask(proposal, lambda mapping: problems(mapping, source.fields(), robot), read, say)
        if read(f"{asked.question} (Enter for yes): ").strip().lower() in YES:
            return mapping
    except EOFError:
        mapping = proposal.mapping
    return _refuse_to_guess(asked, replace(proposal, mapping=mapping))


def _refuse_to_guess(asked: Asked, proposal: Proposal) -> ImportMapping:
    """Save the proposal, and say what to edit and type."""
    text = to_yaml(proposal.mapping, proposal.remarks())
    places = (Path(f"{place}.yaml") for place in numbered(asked.draft))
    file = next(place for place in places if not place.exists() or place.read_text() == text)
    replace_text(file, text)
    undecided, typed = proposal.mapping.undecided, again(f"{asked.mapping_key}={file}")
    edit = f"decide what is ??? in {file} (each with what is believed)" if undecided else f"look through {file}"
    if not proposal.mapping.signals:
        edit = f"no field goes by a name that this robot knows; write the signals into {file} (docs/importing.md)"
    take = f"\nTo take everything that is believed, type {asked.agree_key}=true."
    more = take if undecided and not asked.agree else ""
    raise PositronicError(
        f"Nothing is {asked.done} until somebody agrees to the mapping: {edit}, and type\n  {typed}{more}"
    )
