"""How fast samples are loaded for training: samples a second, ours and LeRobot's, from one baked dataset.

    python scripts/bench_loader.py                        # a synthetic dataset, made first
    python scripts/bench_loader.py --input <baked path>   # your own, of vendor lerobot in format v3.0

A sample is one picture of each camera, the state and a chunk of actions. Every loader gives the same samples in the
same order and in batches, in a process of its own; ``--rounds`` turns each, alternately, so that a busy machine hurts
all alike; medians count. ``memory``, ``mapped`` and ``decoded`` are the three places where stage=train has frames:
decoded in memory, decoded in files that the system maps, and videos that are decoded on demand; ``mapped_cold`` is the
first epoch after the system has forgotten the files. ``torchcodec`` and ``pyav`` are LeRobot's dataset in torch's
DataLoader, as ``lerobot-train`` sets it up; ``lance`` is the reader of lerobot-lancedb, where that is installed.
``s3_fetched`` and ``s3_streamed`` begin with a dataset in a bucket on the loopback and an empty cache: all of it is
fetched and decoded before the first batch, or meanwhile. ``ready s`` is the longest time from opening to the first
batch: for ``memory`` all frames are decoded in it, for ``mapped`` in the first turn; for processes it is their start.

Pictures of ours are compared bit for bit with those in memory, actions of all. LeRobot converts colours in its own way:
how far its pictures are off is told in levels of 255. The last line is JSON: samples a second, how many times faster
``mapped`` is than the better of LeRobot's numbers of processes, and how many times longer the first batch from the
bucket takes when all is fetched first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from bench.bucket import Bucket, bucket_with
from bench.contenders import CannotRunError, ours_with
from bench.ffmpeg import ROOT, environment
from bench.loading import Job, Loaded
from bench.recordings import Size, made_source
from bench.silence import without_stderr
from rich.console import Console
from rich.table import Table

CHILD = ROOT / "scripts" / "bench" / "loading.py"
OURS = ("memory", "mapped", "mapped_cold", "decoded")
BUCKET = ("s3_fetched", "s3_streamed")
LEROBOT = ("torchcodec", "pyav", "lance")
DECODING = ("decoded", *LEROBOT)  # those for which processes are of use
CORES = len(os.sched_getaffinity(0))
TURN_SEC = 600.0


@dataclass
class Turns:
    """What was measured of a loader."""

    loader: str
    workers: int
    loaded: list[Loaded] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Samples a second, the median."""
        return statistics.median(each.samples / each.seconds for each in self.loaded)

    @property
    def ready(self) -> float:
        """Seconds to the first batch, the median."""
        return statistics.median(each.ready_sec for each in self.loaded)

    @property
    def title(self) -> str:
        """Also a file's name."""
        return f"{self.loader}_{self.workers}"


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="bench_loader_") as name:
        scratch = Path(name)
        root = options.input or made_dataset(scratch, options)
        with bucket_with(root) if options.s3 else nullcontext(Bucket("", "")) as bucket:
            turns = take_turns(list(contenders(options)), root, bucket, options, scratch)
        differences = compared(turns, scratch)
    Console(width=100).print(table_of(turns, differences, options))
    print(json.dumps(figures(turns)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--input", type=Path, help="a baked dataset; made when left out")
    add("--episodes", type=int, default=24, help="of the synthetic dataset, two cameras")
    add("--length", type=float, default=10.0, help="seconds of each synthetic episode")
    add("--source", type=Size.parse, default=Size(320, 240), help="size of its recorded pictures")
    add("--batch-size", type=int, default=32)
    add("--chunk", type=int, default=16, help="steps of an action chunk")
    add("--seconds", type=float, default=6.0, help="of loading in each turn")
    add("--rounds", type=int, default=3, help="turns")
    add("--workers", type=int, default=CORES, help="processes of those that decode; they are measured without, too")
    add("--lerobot", action=argparse.BooleanOptionalAction, default=True, help="LeRobot's dataset too")
    add("--s3", action=argparse.BooleanOptionalAction, default=True, help="from a bucket too")
    return parser.parse_args()


def made_dataset(scratch: Path, options: argparse.Namespace) -> Path:
    """Record and bake."""
    source = made_source(scratch, options.source, options.episodes, options.length, CORES)
    with without_stderr():
        ours_with(source, CORES, "v3.0").run(scratch / "baked")
    return scratch / "baked"


def contenders(options: argparse.Namespace) -> Iterator[Turns]:
    """In the order of their turns."""
    for loader in (*OURS, *(BUCKET if options.s3 else ()), *(LEROBOT if options.lerobot else ())):
        for workers in sorted({0, options.workers if loader in DECODING else 0}):
            yield Turns(loader, workers)


# Turns


def take_turns(
    turns: list[Turns], root: Path, bucket: Bucket, options: argparse.Namespace, scratch: Path
) -> list[Turns]:
    """Run all alternately. A loader that cannot run here is named and left out."""
    left = list(turns)
    for number in range(1, options.rounds + 1):
        for turn in list(left):
            try:
                turn.loaded.append(run(turn, root, bucket, options, scratch))
            except CannotRunError as error:
                print(error, flush=True)
                left.remove(turn)
                continue
            speed = f"{turn.loaded[-1].samples / turn.loaded[-1].seconds:9.0f} samples/s"
            print(f"round {number}  {turn.title:16s} {speed}  load {os.getloadavg()[0]:.1f}", flush=True)
    return left


def run(turn: Turns, root: Path, bucket: Bucket, options: argparse.Namespace, scratch: Path) -> Loaded:
    """One turn. Raises CannotRunError."""
    job = Job(
        root=str(root),
        cache=str(scratch / "cache"),
        batch_size=options.batch_size,
        chunk=options.chunk,
        seconds=options.seconds,
        workers=turn.workers,
        first=str(first_of(turn, scratch)),
        uri=bucket.uri,
        endpoint=bucket.endpoint,
    )
    command = [sys.executable, str(CHILD), turn.loader, json.dumps(asdict(job))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(scratch / "ffmpeg"), timeout=TURN_SEC
    )
    if done.returncode:
        raise CannotRunError(f"{turn.title} cannot run here: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return Loaded(**json.loads(done.stdout.splitlines()[-1]))


def first_of(turn: Turns, scratch: Path) -> Path:
    """Where its first batch is."""
    return scratch / f"{turn.title}.npz"


# What comes out


def compared(turns: Sequence[Turns], scratch: Path) -> dict[str, float]:
    """How far each loader's pictures are from those in memory on average, in levels. Exits where ours are not the same,
    or somebody's actions."""
    expected = dict(np.load(first_of(turns[0], scratch)))
    differences = {}
    for turn in turns:
        found = dict(np.load(first_of(turn, scratch)))
        for name, values in expected.items():
            if values.dtype == np.uint8:
                off = np.abs(channels_last(found[name]).astype(int) - values).mean()
                differences[turn.title] = max(differences.get(turn.title, 0.0), float(off))
            elif name in found and not np.array_equal(found[name], values):
                sys.exit(f"{turn.title}: '{name}' is not that of the same samples")
        if turn.loader in (*OURS, *BUCKET) and differences[turn.title]:
            sys.exit(f"{turn.title}: its pictures are not those in memory")
    return differences


def channels_last(images: np.ndarray) -> np.ndarray:
    """LeRobot's are (B, 3, H, W)."""
    return images if images.shape[-1] == 3 else np.moveaxis(images, 1, -1)


def best(turns: Sequence[Turns], loader: str) -> Turns | None:
    """With the number of processes that suits it best."""
    return max((turn for turn in turns if turn.loader == loader), key=lambda turn: turn.speed, default=None)


def figures(turns: Sequence[Turns]) -> dict[str, float]:
    """Samples a second, and ratios of ``mapped``."""
    found = {name: turn for name in (*OURS, *BUCKET, *LEROBOT) if (turn := best(turns, name)) is not None}
    speeds = {f"{name}_samples_s": round(turn.speed, 1) for name, turn in found.items()}
    others = ("memory", "decoded", *LEROBOT)
    ratios = {
        f"mapped_vs_{name}": round(found["mapped"].speed / found[name].speed, 2) for name in others if name in found
    }
    if all(name in found for name in BUCKET):
        first, meanwhile = (found[name].ready for name in BUCKET)
        ratios["s3_first_batch_fetched_vs_streamed"] = round(first / meanwhile, 2)
    return speeds | ratios


def table_of(turns: Sequence[Turns], differences: dict[str, float], options: argparse.Namespace) -> Table:
    """A row per loader and number of processes."""
    table = Table(title=f"Batches of {options.batch_size} samples, action chunks of {options.chunk} steps")
    table.add_column("", no_wrap=True)
    for heading in ("processes", "samples/s", "turns", "ready s", "x torchcodec", "off by levels"):
        table.add_column(heading, justify="right")
    reference = best(turns, "torchcodec")
    for turn in turns:
        table.add_row(
            turn.loader,
            str(turn.workers),
            f"{turn.speed:.0f}",
            str(len(turn.loaded)),
            f"{max(each.ready_sec for each in turn.loaded):.1f}",
            f"{turn.speed / reference.speed:.1f}" if reference else "",
            f"{differences[turn.title]:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
