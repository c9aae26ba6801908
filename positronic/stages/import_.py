"""stage=import: recordings from elsewhere become raw episodes, by a mapping that is shown and agreed to."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from positronic.errors import PositronicError
from positronic.stages.base import Parts
from positronic.utils import fields
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from positronic.importing.agreement import Asked
    from positronic.importing.mapping import ImportMapping
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

    from positronic.embodiments.embodiment import typed_embodiment
    from positronic.importing.agreement import agreed_mapping, known_robot
    from positronic.importing.check import require_sound
    from positronic.importing.recording import Plan
    from positronic.importing.sources import open_source
    from positronic.storage.folder import fetch

    console = Console(stderr=True)  # stdout is for the summary
    _require_another_folder(config)
    source = open_source(config.source, fetch(config.path, config.storage))
    robot, episodes = known_robot(typed_embodiment(config.embodiment), source), source.episodes()
    if not episodes:
        raise PositronicError(f"path={config.path}: it holds no episode.")
    mapping, where = agreed_mapping(_asked(config, len(episodes)), source, robot, console)
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


def _asked(config: Import, count: int) -> Asked:
    """What was told of the mapping."""
    from positronic.importing.agreement import Asked
    from positronic.importing.folder import MAPPING_FILE
    from positronic.storage import is_remote
    from positronic.storage.folder import folder

    saved = folder(config.output_dir, config.storage).read_bytes(MAPPING_FILE)
    base = Path(config.output_dir).name if is_remote(config.output_dir) else config.output_dir
    return Asked(
        source=config.source,
        mapping=config.mapping,
        saved=None if saved is None else (f"{config.output_dir}/{MAPPING_FILE}", saved),
        agree=config.agree,
        draft=f"{base}_mapping",
        question=f"Import {count} {'episode' if count == 1 else 'episodes'} into {config.output_dir}?",
        done="imported",
        task=config.task,
        fps=config.fps,
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
    from positronic.raw.kinds import codec_for
    from positronic.utils.command_line import command

    place = {"dataset": "local", "dataset.path": result.path}
    return f"  next:    {command('convert', place | codec_for(result.mapping.signals))}"
