"""stage=import: recordings from elsewhere become raw episodes, by a mapping that is shown and agreed to."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from positronic.errors import PositronicError, listing
from positronic.stages.base import Parts
from positronic.utils import fields
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from positronic.embodiments.embodiment import Embodiment
    from positronic.importing.mapping import ImportMapping
    from positronic.importing.propose import Proposal
    from positronic.importing.recording import Plan, Recorded, Refused
    from positronic.importing.source import Source

SHOWN = 12  # remarks about episodes


@dataclass
class Import(Parts):
    """Recordings from elsewhere into a raw dataset.

    source: what the recordings are: hdf5, lerobot, mcap (ROS 2 bags) or rlds
    path: folder or file of the recordings, or its URI
    mapping: YAML file that says what becomes of each field; null takes the one that is saved beside the dataset, and
        without one proposes it
    agree: take what the proposal believes of each open convention, without being asked
    output_dir: folder of the raw dataset to write; what is there of the same import is not imported again
    task: instruction for all episodes; null takes each one's own
    fps: samples a second of recordings without stamps; null takes what the mapping says
    on_bad_episode: stop, or skip it
    num_workers: processes; 0 is one per core
    """

    uses: ClassVar[tuple[str, ...]] = ("embodiment", "storage")

    source: str = fields.one_of("hdf5", "lerobot", "mcap", "rlds", default=MISSING)
    path: str = fields.path(MISSING)
    mapping: str | None = fields.path(None)
    agree: bool = False
    output_dir: str = fields.path("${paths.root}/raw/${basename:${path}}")
    task: str | None = None
    fps: float | None = fields.above(0, default=None)
    on_bad_episode: str = fields.one_of("stop", "skip", default="stop")
    num_workers: int = fields.between(0, default=0)


@dataclass(frozen=True)
class Imported:
    """The result of stage=import. ``path``: of the raw dataset, a folder or a URI. ``mapping``: by which it was made.

    ``episodes``: how many it holds. ``recorded``: those of this run; ``refused``: those that could not be imported.
    ``seconds``: how long it took.
    """

    path: str
    mapping: ImportMapping
    episodes: int
    recorded: tuple[Recorded, ...]
    refused: tuple[Refused, ...]
    seconds: float

    def __rich__(self) -> Table:
        return _summary(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def run(config: Import) -> Imported:
    """Import what is at ``config.path``, after showing by which mapping, and say where it is.

    Raises PositronicError when nobody has agreed to the mapping (then the proposal is saved, to be edited), when it
    cannot be used, when the output holds other episodes, and for a bad episode unless it is to be skipped. Episodes
    that were finished before stay, and the same command goes on.
    """
    from rich.console import Console

    from positronic.importing.check import require_sound
    from positronic.importing.recording import Plan
    from positronic.importing.sources import open_source
    from positronic.storage.folder import fetch

    console = Console(stderr=True)  # stdout is for the summary
    _require_another_folder(config)
    source = open_source(config.source, fetch(config.path, config.storage))
    robot, episodes = _robot(config, source), source.episodes()
    if not episodes:
        raise PositronicError(f"path={config.path}: it holds no episode.")
    mapping, where = _mapping(config, source, robot, len(episodes), console)
    require_sound(mapping, source.fields(), robot, where)
    result = _import(config, source, Plan(mapping, robot, dict(source.fields())), console)
    Console().print(result)
    print(_next(result))
    return result


def _require_another_folder(config: Import) -> None:
    """The default output is named after the recordings, and they may lie just there."""
    from positronic.storage import is_remote

    mine, theirs = config.output_dir, config.path
    if not is_remote(mine) and not is_remote(theirs) and Path(mine).resolve() == Path(theirs).resolve():
        raise PositronicError(f"{theirs} holds the recordings. Import elsewhere, e.g. output_dir={mine}_raw.")


def _robot(config: Import, source: Source) -> Embodiment:
    """The one that was typed, or that the recording states."""
    from positronic.embodiments.embodiment import typed_embodiment
    from positronic.utils.provenance import ROOT

    robot = typed_embodiment(config.embodiment) or getattr(source, "embodiment", None)
    if robot is None:
        known = listing(path.stem for path in (ROOT / "conf" / "embodiment").glob("*.yaml"))
        raise PositronicError(
            "Which robot was recorded? Nothing in the recording says so. Type embodiment=<name>, one of "
            f"{known.replace('from_data, ', '')} or your own (docs/importing.md)."
        )
    return robot


def _mapping(
    config: Import, source: Source, robot: Embodiment, count: int, console: Console
) -> tuple[ImportMapping, str]:
    """The mapping to import by, and what messages call it: the file that was typed, the one that is saved, what the
    recording states, or what a person has agreed to."""
    from positronic.importing.mapping import OPEN
    from positronic.importing.table import mapping_table

    told = _told(config, source, robot)
    if told is None:
        return _agreed(config, source, robot, count, console), "that was proposed"
    mapping, where = told
    if mapping.source not in (OPEN, config.source):
        raise PositronicError(
            f"The mapping {where} is of source: {mapping.source}, found source={config.source}. Type "
            f"source={mapping.source}, or another mapping=."
        )
    mapping = _typed(config, mapping)
    console.print(mapping_table(mapping, source.fields()))
    return mapping, where


def _told(config: Import, source: Source, robot: Embodiment) -> tuple[ImportMapping, str] | None:
    from positronic.importing.folder import MAPPING_FILE
    from positronic.importing.mapping import read_mapping, read_text
    from positronic.storage.folder import folder

    if config.mapping is not None:
        return read_mapping(Path(config.mapping)), config.mapping
    saved = folder(config.output_dir, config.storage).read_bytes(MAPPING_FILE)
    if saved is not None:
        where = f"{config.output_dir}/{MAPPING_FILE}"
        return read_text(saved.decode(errors="replace"), where), where
    stated = source.stated(robot)
    return None if stated is None else (stated, "that the recording states")


def _typed(config: Import, mapping: ImportMapping) -> ImportMapping:
    """What is typed on the command line wins."""
    values = {name: getattr(config, name) for name in ("task", "fps") if getattr(config, name) is not None}
    return replace(mapping, **values)


def _agreed(config: Import, source: Source, robot: Embodiment, count: int, console: Console) -> ImportMapping:
    """The proposal, once somebody has agreed to it."""
    from positronic.importing.asking import YES, ask
    from positronic.importing.check import problems
    from positronic.importing.propose import propose
    from positronic.importing.table import proposal_table

    has_task = config.task is not None or source.episodes()[0].task is not None
    proposal = propose(config.source, source.fields(), robot, has_task)
    proposal = replace(proposal, mapping=_typed(config, proposal.mapping))
    console.print(proposal_table(proposal, source.fields(), getattr(source, "unsupported", {})))
    if config.agree:
        agreed = proposal.agreed()
        return agreed if not agreed.undecided else _refuse_to_guess(config, replace(proposal, mapping=agreed))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return _refuse_to_guess(config, proposal)
    read, say = partial(console.input, markup=False), partial(console.print, markup=False)  # lists are no tags
    try:
        mapping = ask(proposal, lambda mapping: problems(mapping, source.fields(), robot), read, say)
        question = (
            f"Import {count} {'episode' if count == 1 else 'episodes'} into {config.output_dir}? (Enter for yes): "
        )
        if read(question).strip().lower() in YES:
            return mapping
    except EOFError:
        mapping = proposal.mapping
    return _refuse_to_guess(config, replace(proposal, mapping=mapping))


def _refuse_to_guess(config: Import, proposal: Proposal) -> ImportMapping:
    """Save the proposal, and say what to edit and type."""
    from positronic.importing.mapping import to_yaml
    from positronic.storage import is_remote
    from positronic.utils.command_line import again
    from positronic.utils.files import numbered, replace_text

    base = Path(config.output_dir).name if is_remote(config.output_dir) else config.output_dir
    text = to_yaml(proposal.mapping, proposal.remarks())
    places = (Path(f"{place}.yaml") for place in numbered(f"{base}_mapping"))
    file = next(place for place in places if not place.exists() or place.read_text() == text)
    replace_text(file, text)
    undecided, typed = proposal.mapping.undecided, again(f"mapping={file}")
    edit = f"decide what is ??? in {file} (each with what is believed)" if undecided else f"look through {file}"
    if not proposal.mapping.signals:
        edit = f"no field goes by a name that this robot knows; write the signals into {file} (docs/importing.md)"
    more = "\nTo take everything that is believed, type agree=true." if undecided and not config.agree else ""
    raise PositronicError(
        f"Nothing is imported until somebody agrees to the mapping: {edit}, and type\n  {typed}{more}"
    )


def _import(config: Import, source: Source, plan: Plan, console: Console) -> Imported:
    from positronic.importing.folder import ImportFolder, imported
    from positronic.raw.upload import RECORDING
    from positronic.storage import is_remote
    from positronic.storage.outgoing import synced_output

    begin, kept, done = time.monotonic(), 0, []
    try:
        with synced_output(config.output_dir, RECORDING, config.storage, resume=True) as root:
            where = config.path if is_remote(config.path) else str(Path(config.path).resolve())
            folder = ImportFolder(root, where, plan.mapping, plan.embodiment)
            there = folder.begin()
            try:
                _record(config, source, plan, root, there, done, console)
            finally:
                kept = len(imported(root))
    except KeyboardInterrupt:
        print(f"{kept} episodes are in {config.output_dir}. The same command goes on.")
        raise
    recorded, refused = ([each for each in done if hasattr(each, "reason") == is_bad] for is_bad in (False, True))
    seconds = time.monotonic() - begin
    return Imported(config.output_dir, plan.mapping, kept, tuple(recorded), tuple(refused), seconds)


def _record(
    config: Import,
    source: Source,
    plan: Plan,
    root: Path,
    there: dict[str, int],
    done: list[Recorded | Refused],
    console: Console,
) -> None:
    """Import what is not there; results go into ``done``."""
    from positronic.importing.folder import places
    from positronic.importing.progress import bar
    from positronic.importing.recording import Refused
    from positronic.importing.run import record_all

    episodes = source.episodes()
    asked = places([episode.name for episode in episodes], there)
    results = record_all(episodes, asked, root, plan, config.num_workers)
    with bar(console, len(asked)) as advance, closing(results):
        for result in results:
            done.append(result)
            if isinstance(result, Refused) and config.on_bad_episode == "stop":
                raise PositronicError(
                    f"{result.reason}\nEpisodes that were imported before are in {config.output_dir}. Mend this one "
                    "and type the same command, which goes on; or leave bad ones out with on_bad_episode=skip."
                )
            advance(0 if isinstance(result, Refused) else result.size)


def _summary(result: Imported) -> Table:
    from rich.table import Table

    size = sum(each.size for each in result.recorded) / 1e6
    speed = f", {size / result.seconds:.1f} MB/s" if result.recorded else ""
    table = Table(title=result.path, title_justify="left", show_header=False)
    table.add_row("imported", f"{len(result.recorded)} episodes in {result.seconds:.1f} s, {size:.1f} MB{speed}")
    table.add_row("in the dataset", f"{result.episodes} episodes")
    copied = sorted({key for each in result.recorded for key in each.copied})
    if copied:
        table.add_row("copied without encoding", ", ".join(copied))
    remarks = [f"{each.name}: {remark}" for each in result.recorded for remark in each.remarks]
    for name, lines in (("look at", remarks), ("left out", [each.reason for each in result.refused])):
        more = [f"... ({len(lines)} in all)"] if len(lines) > SHOWN else []
        if lines:
            table.add_row(name, "\n".join([*lines[:SHOWN], *more]))
    return table


def _next(result: Imported) -> str:
    from positronic import keys
    from positronic.utils.command_line import command

    place = {"dataset": "local", "dataset.path": result.path}
    poses = any(keys.split_arm(key)[0] == keys.EE_POSE for key in result.mapping.signals)
    return f"  next:    {command('convert', place if poses else place | {'codec': 'joints_cmd'})}"
