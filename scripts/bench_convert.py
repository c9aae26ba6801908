"""How fast the bake is: timesteps a second, against LeRobot's own writer and against the bare encoder.

    python scripts/bench_convert.py                # synthetic recordings, made first
    python scripts/bench_convert.py --raw <path>   # your own
    python scripts/bench_convert.py --all          # formats, processes, picture sizes, where time and memory go

Every contender gets the same raw episodes, reads and letterboxes the same frames, and has ``--rounds`` turns, so that a
busy machine hurts all alike; medians count. On one that is busy with other things, look at the CPU seconds too. The
bound is decode + letterbox + encode of the same frames with the same settings in as many processes, started beforehand,
and nothing else: no statistics, no parquet, no start-up. Importing is timed for nobody, starting workers is for
everybody but the bound (the CPU seconds of the published release have both). The last line is JSON of the main case,
the first source and format on the most processes: ``vs_lerobot_default`` and ``vs_lerobot_fastest`` (``vs_published``)
say how many times faster we are, ``of_bound`` how much of the bound's speed we have.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import memory, opening, split
from bench.contenders import (
    BOUND,
    LEROBOT_DEFAULT,
    LEROBOT_FASTEST,
    OURS,
    PUBLISHED,
    CannotRunError,
    Contender,
    lerobot_contenders,
    make_contenders,
    ours_with,
    published_contender,
)
from bench.quality import psnr
from bench.recordings import Size, Source, made_source, open_source
from bench.silence import without_stderr
from rich.console import Console
from rich.table import Table

TABLE_WIDTH = 110
SPLIT_ROUNDS = 2
FORMATS = ["v3.0", "v2.1"]
CORES = len(os.sched_getaffinity(0))


@dataclass
class Turns:
    """What was measured of a contender. ``cpu``: seconds of all its processes, by turn, as ``seconds`` of the clock."""

    contender: Contender
    timesteps: int
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    psnr: float | None = None

    @property
    def speed(self) -> float:
        """Timesteps a second, the median."""
        return self.timesteps / statistics.median(self.seconds)


def main() -> None:
    options = parse()
    quiet()
    with tempfile.TemporaryDirectory(prefix="bench_convert_") as name:
        scratch, tables, ratios = Path(name), [], {}
        for number, source in enumerate(sources(options, scratch)):
            turns = compare(source, options, max(1, options.rounds - number), scratch)
            tables.append(speed_table(source, turns))
            ratios = ratios or main_case(turns)
            if options.split:
                tables.append(split.split_table(split.measure_split(source, scratch, SPLIT_ROUNDS), source))
        if options.memory:
            workers = max(options.workers)
            tables.append(memory.memory_table(memory.measure_memory(scratch, options.memory, workers), workers))
        if options.manifest:
            tables.append(opening.opening_table(opening.measure_opening(scratch, options.manifest)))
    console = Console(width=max(TABLE_WIDTH, Console().width))
    for table in tables:
        console.print(table)
    print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


def parse() -> argparse.Namespace:
    """The command line. Missing choices get defaults, and ``--all`` means more of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--raw", type=Path, help="a raw dataset with both cameras; made when left out")
    add("--episodes", type=int, default=12, help="of the synthetic dataset; fewer when pictures are large")
    add("--seconds", type=float, default=10.0, help="of each synthetic episode")
    add("--sources", type=sizes, help="picture sizes to record, 320x240,1280x720")
    add("--rounds", type=int, default=3, help="turns at the first source; one less at each further one")
    add("--workers", type=counts, help="numbers of processes, 1,2; one per core when left out")
    add("--formats", type=names, help="dataset formats, v3.0,v2.1")
    add("--lerobot", action=argparse.BooleanOptionalAction, default=True, help="LeRobot's writer too")
    add("--published", type=Path, metavar="PYTHON", help="interpreter of an environment with the published release")
    add("--split", action=argparse.BooleanOptionalAction, help="where the time goes")
    add("--memory", type=int, nargs="?", const=memory.FEW, metavar="N", help="peak, of N and 4 N episodes")
    add("--manifest", type=int, nargs="?", const=opening.MANY, metavar="N", help="open N made-up episodes")
    add("--all", action="store_true", help="all of these; LeRobot and the published release have one turn")
    options = parser.parse_args()
    usual = {"sources": sizes("320x240"), "workers": [CORES], "formats": FORMATS[:1]}
    if options.all:
        usual = {"sources": sizes("320x240,1280x720"), "workers": sorted({1, CORES}), "formats": FORMATS}
        usual |= {"split": True, "memory": memory.FEW, "manifest": opening.MANY}
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def names(text: str) -> list[str]:
    """``a,b``."""
    return text.split(",")


def counts(text: str) -> list[int]:
    """``1,2``."""
    return [int(each) for each in names(text)]


def sizes(text: str) -> list[Size]:
    """``320x240,1280x720``."""
    return [Size.parse(each) for each in names(text)]


def quiet() -> None:
    """Silences encoders, which report to stderr each time they close; LeRobot undoes this after each file."""
    logging.disable(logging.WARNING)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def sources(options: argparse.Namespace, scratch: Path) -> Iterator[Source]:
    """The given recording, or one of each size, which is removed before the next is made."""
    if options.raw is not None:
        yield open_source(options.raw)
        return
    for size in options.sources:
        source = made_source(scratch, size, options.episodes, options.seconds, CORES)
        yield source
        shutil.rmtree(source.dataset.root)


# Turns


def compare(source: Source, options: argparse.Namespace, rounds: int, scratch: Path) -> list[Turns]:
    """Let all contenders bake one source."""
    print(f"{source.name}: {len(source.dataset)} episodes, {source.timesteps} timesteps of 2 cameras, load {load()}")
    contenders = make_contenders(source, options.workers, options.formats)
    if options.published is not None:
        contenders.append(published_contender(source, options.published))
    if options.lerobot:
        contenders += lerobot_contenders(source, only_once=options.all)
    warm_up(source, scratch)
    turns = take_turns([Turns(each, source.timesteps) for each in contenders], rounds, scratch)
    outputs = {turn.contender.title: scratch / turn.contender.title for turn in turns if turn.contender.has_output}
    quality = psnr(outputs, source)
    for turn in turns:
        turn.psnr = quality.get(turn.contender.title)
    for path in outputs.values():
        shutil.rmtree(path)
    return turns


def warm_up(source: Source, scratch: Path) -> None:
    """Bake an episode, so that everything is imported."""
    first = Source(source.name, source.dataset[:1], source.recipe)
    with without_stderr():
        for dataset_format in FORMATS:
            ours_with(first, 1, dataset_format).run(scratch / "warm_up")
            shutil.rmtree(scratch / "warm_up")


def take_turns(turns: Sequence[Turns], rounds: int, scratch: Path) -> list[Turns]:
    """Run all of ``turns`` alternately. A contender that cannot run here is named and left out."""
    left = list(turns)
    for round_number in range(1, rounds + 1):
        for turn in list(left):
            if turn.contender.only_once and turn.seconds:
                continue
            try:
                run(turn, scratch / turn.contender.title)
            except CannotRunError as error:
                print(error)
                left.remove(turn)
                continue
            speed = f"{turn.timesteps / turn.seconds[-1]:7.1f} timesteps/s  {turn.seconds[-1]:6.1f} s"
            said = f"round {round_number}  {turn.contender.title:20s} {speed}  CPU {turn.cpu[-1]:6.1f} s"
            print(f"{said}  load {load()}", flush=True)
    return left


def run(turn: Turns, output: Path) -> None:
    """One turn."""
    shutil.rmtree(output, ignore_errors=True)
    started, cpu = time.perf_counter(), cpu_seconds()
    with without_stderr():
        own = turn.contender.run(output)
    turn.seconds.append(time.perf_counter() - started if own is None else own)
    turn.cpu.append(cpu_seconds() - cpu)


def load() -> str:
    """Of the machine."""
    return f"{os.getloadavg()[0]:.1f}"


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


# What comes out


def find(turns: Sequence[Turns], name: str, workers: int | None = None) -> Turns | None:
    """The first contender of a name, and of this number of processes if it is given."""
    matching = (turn for turn in turns if turn.contender.name == name)
    return next((turn for turn in matching if workers in (None, turn.contender.workers)), None)


def main_case(turns: Sequence[Turns]) -> dict[str, float]:
    """How we compare in the first format on the most processes."""
    workers = max(turn.contender.workers or 0 for turn in turns)
    ours = find(turns, OURS, workers)
    slow = {name: find(turns, name) for name in (LEROBOT_DEFAULT, LEROBOT_FASTEST, PUBLISHED)}
    ratios = {f"vs_{name}": ours.speed / turn.speed for name, turn in slow.items() if turn is not None}
    return ratios | {"of_bound": ours.speed / find(turns, BOUND, workers).speed}


def speed_table(source: Source, turns: Sequence[Turns]) -> Table:
    """A row per contender. CPU ms: of all processes, per timestep."""
    table = Table(title=f"Baking {source.name}: {len(source.dataset)} episodes, {source.timesteps} timesteps")
    table.add_column("", no_wrap=True)
    for title in ("format", "processes", "timesteps/s", "turns", "CPU ms", "of bound", "x LeRobot", "PSNR dB"):
        table.add_column(title, justify="right")
    lerobot = find(turns, LEROBOT_DEFAULT)
    for turn in turns:
        contender = turn.contender
        bound = find(turns, BOUND, contender.workers) if contender.workers else None
        table.add_row(
            contender.name,
            contender.dataset_format or "",
            str(contender.workers or ""),
            f"{turn.speed:.1f}",
            str(len(turn.seconds)),
            f"{statistics.median(turn.cpu) * 1e3 / turn.timesteps:.2f}",
            f"{turn.speed / bound.speed:.2f}" if bound else "",
            f"{turn.speed / lerobot.speed:.1f}" if lerobot else "",
            f"{turn.psnr:.2f}" if turn.psnr else "",
        )
    return table


if __name__ == "__main__":
    main()
