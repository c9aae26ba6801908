"""How long it takes to open a dataset of very many episodes, which is made here without recording them.

The first episodes are written by the bake's own ledger, writer and sidecar; their rows, in row groups as the bake
leaves them, are repeated under the next indices. Each repetition has videos of its own under second names, and
histograms are left out, as whoever opens the dataset does not look at them. Files that were just written are in the
system's cache.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from bench.recordings import PROVENANCE, make_recipe
from bench.silence import without_stderr

if TYPE_CHECKING:
    import pyarrow as pa

    from positronic.bake.ledger import Ledger
    from positronic.codecs.build import Recipe

MANY = 100_000
TEMPLATE = 1000  # episodes that are written one by one
LENGTH = 10  # frames of each
EPISODES_PER_GROUP = 100
TASK = "Stack the red cube on the blue cube."


class Opening(NamedTuple):
    """``what`` was read of a dataset of so many ``episodes``, in how many seconds."""

    what: str
    episodes: int
    seconds: float


def measure_opening(scratch: Path, episodes: int) -> list[Opening]:
    """Manifest, the whole baked dataset, and the list of a raw one. ``episodes`` is rounded down to full thousands."""
    from positronic.bake.manifest import read_manifest
    from positronic.bake.reader import open_baked
    from positronic.raw.dataset import open_dataset

    baked, raw = scratch / "baked_many", scratch / "raw_many"
    with without_stderr():
        count = make_baked(baked, episodes)
    make_raw_folders(raw, count)
    everything = f"baked: all but frames (open_baked), {count * LENGTH:,} rows of vectors"
    found = [
        timed("baked: the manifest (read_manifest)", lambda: read_manifest(baked).episodes, count),
        timed(everything, lambda: len(open_baked(baked).starts), count),
        timed("raw: the list of episodes (open_dataset)", lambda: len(open_dataset(raw)), count),
    ]
    for path in (baked, raw):
        shutil.rmtree(path)
    return found


def timed(what: str, count: Callable[[], int], expected: int) -> Opening:
    """Seconds of ``count()``. Raises RuntimeError when it does not find the ``expected`` episodes."""
    started = time.perf_counter()
    found = count()
    seconds = time.perf_counter() - started
    if found != expected:
        raise RuntimeError(f"{what}: {found} episodes were found of {expected}")
    return Opening(what, found, seconds)


def make_raw_folders(root: Path, episodes: int) -> None:
    """Episode folders; what would be in them is not read when a dataset is opened."""
    from positronic.raw.layout import episode_path

    for number in range(episodes):
        episode_path(root, number).mkdir(parents=True)


def make_baked(root: Path, episodes: int) -> int:
    """A dataset of about ``episodes``. Returns how many."""
    from positronic import keys
    from positronic.bake.files import DATA_GROUP_ROWS, DATA_PATH, EPISODES_PATH
    from positronic.bake.manifest import write_manifest
    from positronic.bake.sidecar import HISTOGRAMS_FILE

    recipe, template = make_recipe(), min(TEMPLATE, episodes)
    copies, count = episodes // template, episodes // template * template
    ledger = write_template(root, recipe, template)
    steps = {"episode_index": template, "index": template * LENGTH}
    steps |= dict.fromkeys(("dataset_from_index", "dataset_to_index"), template * LENGTH)
    repeat(root, DATA_PATH, DATA_GROUP_ROWS, copies, steps)
    files = {f"videos/{name}/file_index": 1 for name in ledger.cameras}
    repeat(root, EPISODES_PATH, EPISODES_PER_GROUP, copies, steps | files)
    link_videos(root, ledger.cameras, copies)
    repeat(root, keys.EPISODES_SIDECAR, count, copies, steps)
    (root / HISTOGRAMS_FILE).unlink()
    patch_info(root, count)
    write_manifest(root, manifest_of(root, recipe, ledger.fps, count))
    return count


def link_videos(root: Path, cameras: list[str], copies: int) -> None:
    """The first file of each camera under the next numbers."""
    from positronic.bake.files import VIDEO_PATH, Slot, link, place

    for name in cameras:
        first, *others = (place(root, VIDEO_PATH, Slot.of(copy), video_key=name) for copy in range(copies))
        for path in others:
            link(first, path)


def write_template(root: Path, recipe: Recipe, episodes: int) -> Ledger:
    """The first episodes, by the code that writes them in a bake."""
    import numpy as np

    from positronic.bake.config import VideoConfig
    from positronic.bake.episode import BakedEpisode, Source
    from positronic.bake.features import lerobot_features
    from positronic.bake.ledger import Ledger
    from positronic.bake.sidecar import Sidecar
    from positronic.bake.writer_v30 import WriterV30

    fps = recipe.codec.timing.fps
    ledger, random = Ledger(lerobot_features(recipe.modality, fps, VideoConfig()), fps), np.random.default_rng(0)
    root.mkdir()
    pieces = {column.name: black_piece(root, column, fps) for column in recipe.modality.image_columns}
    sidecar, writer = Sidecar(root, ledger.cameras), WriterV30(root, ledger)
    for number in range(episodes):
        columns = {
            column.name: random.random((LENGTH, *column.shape), np.float32) for column in recipe.modality.vector_columns
        }
        histograms = {name: black_histogram(recipe.modality.image_columns[0].shape) for name in pieces}
        source = Source(f"{number:032x}", f"{number:064x}")
        episode = BakedEpisode(source, TASK, LENGTH, columns, {}, [], pieces, histograms, was_there=False)
        writer.write(ledger.enter(episode))
        sidecar.add(*source, LENGTH, TASK, histograms)
    writer.finish(ledger)
    sidecar.finish()
    for piece in pieces.values():
        piece.unlink()
    return ledger


def black_piece(root: Path, column: Any, fps: int) -> Path:
    """An episode's video."""
    import av
    from PIL import Image

    from positronic.bake.config import VideoConfig
    from positronic.bake.video import piece_writer

    path, (height, width, _) = root / f"{column.name}.mp4", column.shape
    black = av.VideoFrame.from_image(Image.new("RGB", (width, height))).reformat(format=VideoConfig().pix_fmt)
    with piece_writer(path, height, width, fps, VideoConfig()) as writer:
        for _ in range(LENGTH):
            writer.write(black)
    return path


def black_histogram(shape: tuple[int, ...]) -> Any:
    """Of LENGTH frames (H, W, 3)."""
    from positronic.bake.frames import empty_histogram

    histogram = empty_histogram()
    histogram[:, 0] = LENGTH * shape[0] * shape[1]
    return histogram


def repeat(root: Path, template: str, rows_per_group: int, copies: int, steps: dict[str, int]) -> None:
    """Write the rows of a kind of file, so far one file, ``copies`` times; columns in ``steps`` go on by so much."""
    import pyarrow.parquet as pq

    from positronic.bake.files import Slot

    path = root / template.format(**Slot.of(0)._asdict())
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        for copy in range(copies):
            writer.write_table(shifted(table, {name: copy * step for name, step in steps.items()}), rows_per_group)


def shifted(table: pa.Table, offsets: dict[str, int]) -> pa.Table:
    """The table with a number added to each of the columns that it has of ``offsets``."""
    import pyarrow.compute as pc

    for place, field in enumerate(table.schema):
        if field.name in offsets:
            table = table.set_column(place, field, pc.add(table[field.name], offsets[field.name]))
    return table


def patch_info(root: Path, episodes: int) -> None:
    """Tell the number of episodes, to those who count frames too."""
    from positronic import keys

    info = json.loads((root / keys.INFO_FILE).read_text())
    info |= {"total_episodes": episodes, "total_frames": episodes * LENGTH, "splits": {"train": f"0:{episodes}"}}
    (root / keys.INFO_FILE).write_text(json.dumps(info))
    stats = json.loads((root / keys.STATS_FILE).read_text())
    counted = {name: each | {"count": [episodes * LENGTH]} for name, each in stats.items()}
    (root / keys.STATS_FILE).write_text(json.dumps(counted))


def manifest_of(root: Path, recipe: Recipe, fps: int, episodes: int) -> Any:
    """What such a dataset would say of itself."""
    import pyarrow.parquet as pq

    from positronic import keys
    from positronic.bake.config import VideoConfig
    from positronic.bake.manifest import Manifest, episodes_digest

    sources = pq.read_table(root / keys.EPISODES_SIDECAR, columns=["uid", "fingerprint", "length"])

    return Manifest(
        recipe=recipe.to_dict(),
        fps=fps,
        dataset_format="v3.0",
        vendor="lerobot",
        episodes=episodes,
        frames=episodes * LENGTH,
        digest=episodes_digest(zip(*(column.to_pylist() for column in sources.columns), strict=True)),
        signals=list(recipe.codec.signals),
        reader={},
        task=None,
        max_staleness_sec=None,
        video=asdict(VideoConfig()),
        provenance=PROVENANCE,
    )


def opening_table(openings: list[Opening]) -> Table:
    """Seconds of each."""
    table = Table(title=f"Opening a dataset of {openings[0].episodes:,} episodes")
    table.add_column("")
    table.add_column("s", justify="right")
    for each in openings:
        table.add_row(each.what, f"{each.seconds:.3f}")
    return table
