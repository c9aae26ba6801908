"""Raw datasets and episodes as tables, for people to read. What cannot be read is said in its row and not raised."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from positronic import keys
from positronic.errors import clipped, listing
from positronic.raw.faults import BadEpisode
from positronic.raw.kinds import kind_of
from positronic.raw.timeline import NS_PER_SEC
from positronic.storage import is_remote

if TYPE_CHECKING:
    from positronic.raw.dataset import Dataset
    from positronic.raw.episode import Episode, Signal

SHOWN = 10  # episodes of a dataset
TEXT_CHARS = 60


def dataset_table(dataset: Dataset) -> Group:
    """What is in the dataset, then its first episodes; those of an object store are not fetched for it."""
    head = Table(title=Text(f"Raw dataset {dataset.name}"), show_header=False)
    rows = {"folder": str(dataset.root), "episodes": str(len(dataset))}
    if len(dataset):
        rows["signals of the first"] = listing(dataset[0].signals, limit=40)
    for name, value in (rows | dataset.left_out.rows()).items():
        head.add_row(Text(name), Text(value))
    return Group(head) if is_remote(str(dataset.root)) else Group(head, _episodes(dataset))


def _episodes(dataset: Dataset) -> Table:
    more = f"the first {SHOWN} of {len(dataset)}" if len(dataset) > SHOWN else None
    table = Table("episode", "seconds", "task", "outcome", caption=more)
    for episode in islice(dataset, SHOWN):
        try:
            statics = episode.statics
            said = [clipped(str(statics.get(key, "")), TEXT_CHARS) for key in (keys.TASK, keys.EVAL_OUTCOME)]
            table.add_row(str(episode.id), f"{episode.duration_sec:.2f}", *map(Text, said))
        except BadEpisode as error:
            table.add_row(str(episode.id), "", Text(str(error)), "")
    return table


def episode_table(episode: Episode) -> Group:
    """Its statics, then a row for each signal with its clock; times in seconds from the episode's start."""
    head = Table(title=Text(f"Episode {episode.id}"), show_header=False)
    for name, value in _facts(episode):
        head.add_row(Text(name), Text(clipped(value, 4 * TEXT_CHARS)))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))  # names stay whole within 80 characters
    table.add_column("signal", overflow="fold", no_wrap=True)
    table.add_column("holds", overflow="fold")
    for heading in ("shape", "samples", "Hz", "from, s", "to"):
        table.add_column(heading, justify="right", no_wrap=True)
    start = max((_first(signal) for signal in episode.signals.values()), default=0)
    for name, signal in episode.signals.items():
        try:
            table.add_row(Text(name), *_row(signal, start))
        except BadEpisode as error:
            table.add_row(Text(name), Text(error.reason))
    return Group(head, table)


def _first(signal: Signal) -> int:
    """Its first stamp in ns; the least number for one that has none or cannot be read."""
    try:
        return int(signal.times_ns[0])
    except (BadEpisode, IndexError):
        return 0


def _facts(episode: Episode) -> Iterator[tuple[str, str]]:
    yield "folder", str(episode.place)
    try:
        yield "seconds", f"{episode.duration_sec:.2f}"
        yield from ((name, str(value)) for name, value in episode.statics.items())
    except BadEpisode as error:
        yield "damaged", error.reason


def _row(signal: Signal, start_ns: int) -> tuple[Text | str, ...]:
    times, kind = signal.times_ns, kind_of(signal.name)
    holds = Text(kind.what if kind else "")
    shape = "x".join(map(str, signal.shape)) or "number"
    if not len(times):
        return holds, shape, "0"
    seconds = (int(times[-1]) - int(times[0])) / NS_PER_SEC
    rate = f"{(len(times) - 1) / seconds:.1f}" if seconds else ""
    first, last = ((int(stamp) - start_ns) / NS_PER_SEC for stamp in (times[0], times[-1]))
    return holds, shape, str(len(times)), rate, f"{first:.2f}", f"{last:.2f}"
