"""Where the time of a bake goes: the bake itself, in this process alone, with a stopwatch around its parts."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.recordings import PROVENANCE, Source
from bench.silence import without_stderr

# What runs under each heading, as <module>:<attribute>; a part that runs inside another is taken out of it.
PARTS = {
    "decode": ("positronic.raw.decoder:Decoder.__init__", "positronic.raw.decoder:Decoder.frame"),
    "letterbox (to RGB, resize)": ("positronic.bake.frames:FramePreparer.picture",),
    "histogram": ("PIL.Image:Image.histogram",),
    "to the encoder's format, counts to numpy": ("positronic.bake.frames:FramePreparer.prepare",),
    "encode": tuple(f"positronic.bake.video:PieceWriter.{name}" for name in ("__init__", "write", "flush", "close")),
    "vectors (read, check, sample, codec)": ("positronic.bake.episode:_plan",),
    "statistics": ("positronic.bake.ledger:Ledger.enter", "positronic.bake.ledger:Ledger.stats"),
    "parquet, joining, meta": (
        "positronic.bake.writer_v30:WriterV30.write",
        "positronic.bake.writer_v30:WriterV30.finish",
        "positronic.bake.sidecar:Sidecar.add",
        "positronic.bake.sidecar:Sidecar.finish",
        "positronic.bake.pieces:Piece.store",
        "positronic.raw.episode:Episode.fingerprint",
    ),
}
REST = "everything else"


class Stopwatch:
    """Seconds under each heading. Of headings inside each other, only the innermost runs."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys([*PARTS, REST], 0.0)
        self._running = [REST]
        self._since = time.perf_counter()

    def start(self, heading: str) -> None:
        """Begin one."""
        self._charge()
        self._running.append(heading)

    def stop(self) -> None:
        """End the innermost."""
        self._charge()
        self._running.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def around(self, heading: str, function: Callable) -> Callable:
        """The function, timed."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.start(heading)
            try:
                return function(*args, **kwargs)
            finally:
                self.stop()

        return timed


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Puts itself around all PARTS, and takes itself off afterwards. AttributeError for one that is gone."""
    places = [(heading, *find(name)) for heading, names in PARTS.items() for name in names]
    watch = Stopwatch()
    for heading, owner, name, function in places:
        setattr(owner, name, watch.around(heading, function))
    try:
        yield watch
        watch.stop()
    finally:
        for _, owner, name, function in places:
            setattr(owner, name, function)


def find(place: str) -> tuple[Any, str, Callable]:
    """What holds an attribute, its name, and itself."""
    module, path = place.split(":")
    owner, (*above, name) = importlib.import_module(module), path.split(".")
    for each in above:
        owner = getattr(owner, each)
    return owner, name, getattr(owner, name)


def measure_split(source: Source, scratch: Path, rounds: int) -> dict[str, float]:
    """Heading -> seconds, of the quickest of ``rounds`` bakes."""
    from positronic.bake.convert import BakeOptions, bake

    output, options, results = scratch / "split", BakeOptions(vendor="lerobot", num_workers=1), []
    for _ in range(rounds):
        with without_stderr(), stopwatch() as watch:
            bake(source.dataset, source.recipe, output, options, provenance=PROVENANCE)
        shutil.rmtree(output)
        results.append(watch.seconds)
    return min(results, key=lambda seconds: sum(seconds.values()))


def split_table(seconds: dict[str, float], source: Source) -> Table:
    """ms per timestep and share of each heading."""
    table = Table(title=f"Where the time goes: {source.name}, one process, v3.0, {source.timesteps} timesteps")
    table.add_column("")
    for title in ("ms per timestep", "%"):
        table.add_column(title, justify="right")
    total = sum(seconds.values())
    for heading, value in [*seconds.items(), ("all", total)]:
        table.add_row(heading, f"{value * 1e3 / source.timesteps:.3f}", f"{value / total * 100:.1f}")
    return table
