"""How a bake in shards grows with the number of episodes: seconds and peak memory of what one process does alone.

    python scripts/bench_sharding.py                           # 1,000 and 10,000 episodes
    python scripts/bench_sharding.py --episodes 1000,10000,100000 --shards 64

What grows with all episodes, whatever the number of machines: listing the recording, comparing the shards with it, and
joining them; and opening the joined dataset for training. Each is done in a process of its own by the code that does it
otherwise. Episodes are tiny (10 frames) and without cameras: all folders of the recording hold second names of one
recorded episode, and the shards' records repeat its samples under other uids. So this measures what each episode costs
apart from its videos, whose bytes the join reads twice and writes once. The last line is JSON: for each number of
episodes the seconds, those of CPU, and the peak in MB of each step, and ``growth``: how many times as much CPU an
episode costs in the step that grows most, with most episodes against fewest (below 1: fixed costs weigh less).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.recordings import PROVENANCE, make_recipe, record_arm
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from positronic.bake.episode import BakedEpisode
    from positronic.bake.run import BakeOptions
    from positronic.bake.shards import Shards
    from positronic.codecs.build import Recipe
    from positronic.raw.dataset import Dataset

LENGTH = 10  # frames of an episode
FPS = 15
LINKS = 30_000  # of one file; file systems allow some more
MB = 1 << 20


class Place(NamedTuple):
    """Where the recording, its shards and the joined dataset are."""

    raw: Path
    baked: Path
    shards: int


class Spent(NamedTuple):
    """Of one step in a fresh process. ``cpu``: seconds of all its threads. ``peak``: of its resident memory, in MB,
    imports included."""

    seconds: float
    cpu: float
    peak: float


def main() -> None:
    options = parse()
    found: dict[int, dict[str, Spent]] = {}
    with tempfile.TemporaryDirectory(prefix="bench_sharding_", dir=options.scratch) as scratch:
        for count in options.episodes:
            place = Place(Path(scratch) / "raw", Path(scratch) / "baked", min(options.shards, count))
            make_recording(place.raw, count)
            alone(make_shards, place)
            found[count] = {name: alone(step, place) for name, step in STEPS.items()}
            print(
                f"{count} episodes: {', '.join(f'{n} {s.seconds:.1f} s' for n, s in found[count].items())}", flush=True
            )
            for path in Path(scratch).iterdir():
                shutil.rmtree(path)
    Console(width=max(100, Console().width)).print(table_of(found))
    print(json.dumps(told(found)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = "numbers of episodes"
    parser.add_argument(
        "--episodes", type=lambda t: [int(n) for n in t.split(",")], default=[1000, 10_000], help=numbers
    )
    parser.add_argument("--shards", type=int, default=64, help="at most one per episode")
    parser.add_argument("--scratch", type=Path, help="folder for what is made; some 6 kB for each episode")
    return parser.parse_args()


# What is measured


def list_recording(place: Place) -> None:
    """What every process does first."""
    opened(place).names_digest()


def compare(place: Place) -> None:
    """What is done before shards are joined: sizes and statics of all files."""
    from positronic.bake.convert import plan

    dataset, recipe, options, shards = parts(place)
    shards.require_complete(dataset, plan(dataset, recipe, options, PROVENANCE), options.robot_is_told)


def join_all(place: Place) -> None:
    """All of it, comparing included."""
    from positronic.bake.convert import join

    dataset, recipe, options, shards = parts(place)
    join(dataset, recipe, place.baked, options, PROVENANCE, shards)


def open_joined(place: Place) -> None:
    """As training does, every byte compared."""
    from positronic.bake.reader import open_baked

    open_baked(place.baked, every_byte=True)


STEPS = {"list the recording": list_recording, "compare shards": compare, "join": join_all, "open": open_joined}


def alone(step: Callable[[Place], None], place: Place) -> Spent:
    """Run it in a fresh process. Raises RuntimeError when it fails."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=measured, args=(theirs, step, place))
    process.start()
    theirs.close()
    try:
        spent = ours.recv()
    except EOFError:
        raise RuntimeError(f"{step.__name__} failed") from None
    process.join()
    return spent


def measured(connection: Any, step: Callable[[Place], None], place: Place) -> None:
    """In the process: imports are timed for nobody."""
    import positronic.bake.one_shard  # with all that joins shards
    import positronic.bake.reader  # noqa: F401

    parts(place, open_raw=False)
    started, cpu = time.perf_counter(), time.process_time()
    step(place)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    connection.send(Spent(seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB))


def opened(place: Place) -> Dataset:
    """The recording."""
    from positronic.raw.dataset import open_dataset

    return open_dataset(place.raw)


def parts(place: Place, open_raw: bool = True) -> tuple[Dataset | None, Recipe, BakeOptions, Shards]:
    """What a bake is made of."""
    from positronic.bake.run import BakeOptions
    from positronic.bake.shards import Shards, shards_path

    shards = Shards(shards_path(place.baked), place.shards)
    return opened(place) if open_raw else None, recipe_without_cameras(), BakeOptions("lerobot", num_workers=1), shards


def recipe_without_cameras() -> Recipe:
    """Codec ee of vendor lerobot, vectors alone."""
    return make_recipe("codec.images=[]", f"modality.action_fps={FPS}")


# What it is measured on


def make_recording(root: Path, episodes: int) -> None:
    """One episode is recorded; the others are second names of its files."""
    import numpy as np

    from positronic.raw.layout import episode_path
    from positronic.raw.writer import DatasetWriter

    for number in range(episodes):
        folder = episode_path(root, number)
        if number % LINKS == 0:
            with DatasetWriter(root).new_episode(number) as episode:
                for tick in range(LENGTH * 4):
                    record_arm(episode, np.sin(np.arange(7) + tick / 60), tick * 10**9 // 60)
            first, names = folder, os.listdir(folder)
            continue
        folder.mkdir(parents=True)
        for name in names:
            os.link(first / name, folder / name)


def make_shards(place: Place) -> None:
    """Complete shards; their episodes are the first one's under other uids and fingerprints."""
    from positronic.bake.convert import plan
    from positronic.bake.shards import stamp_of

    dataset, recipe, options, shards = parts(place)
    whole = stamp_of(dataset, plan(dataset, recipe, options, PROVENANCE), options.robot_is_told)
    template = baked_episode(dataset, recipe, options)
    for shard in shards:
        fill(shard, dataset, recipe, template)
        shard.seal(shard.stamp(whole, dataset), shard.pieces / "none", [])


def baked_episode(dataset: Dataset, recipe: Recipe, options: BakeOptions) -> BakedEpisode:
    """The recorded episode as a shard keeps it."""
    from dataclasses import replace

    from positronic.bake.episode import bake_episode

    with tempfile.TemporaryDirectory() as folder:
        baker = replace(options.baker(recipe), keeps_samples=True)
        return bake_episode(baker, dataset[0], Path(folder), lambda frames: None)


def fill(shard: Any, dataset: Dataset, recipe: Recipe, template: BakedEpisode) -> None:
    """Write the records of one shard."""
    from positronic.bake.episode import Source
    from positronic.bake.orientation import movements_of, two_numbered
    from positronic.bake.shard_records import RecordWriter

    shard.folder.mkdir(parents=True)
    movements = next(movements_of(recipe, dataset[:1], 1))
    turning = list(two_numbered(recipe))
    with closing(RecordWriter(shard.records, recipe.codec.vector_signals, [], turning)) as records:
        for number in shard.span(len(dataset)):
            source = Source(f"{number:032x}", f"{number:064x}")
            records.write(template._replace(source=source, task=f"task {number % 50}"), movements)


# What comes out


def told(found: dict[int, dict[str, Spent]]) -> dict[str, Any]:
    """JSON-ready."""
    numbers = {
        str(count): {
            name: {"sec": round(s.seconds, 2), "cpu_sec": round(s.cpu, 2), "mb": round(s.peak)}
            for name, s in steps.items()
        }
        for count, steps in found.items()
    }
    few, many = min(found), max(found)
    growth = max(found[many][name].cpu / many / (found[few][name].cpu / few) for name in STEPS)
    return numbers | {"growth": round(growth, 2)}


def table_of(found: dict[int, dict[str, Spent]]) -> Table:
    """A row for each step; seconds, and the peak of memory."""
    table = Table(
        title=f"A bake in shards: seconds, those of CPU, MB at the peak; episodes of {LENGTH} frames without video"
    )
    table.add_column("")
    for count in found:
        table.add_column(f"{count:,} episodes", justify="right")
    for name in STEPS:
        table.add_row(
            name,
            *(
                f"{steps[name].seconds:.2f} s  {steps[name].cpu:.2f} s  {steps[name].peak:.0f} MB"
                for steps in found.values()
            ),
        )
    return table


if __name__ == "__main__":
    main()
