"""stage=convert: raw episodes through a codec into a LeRobot dataset."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from positronic import keys
from positronic.bake.config import VideoConfig
from positronic.errors import PositronicError
from positronic.stages import sharding
from positronic.stages.base import DATASET_FORMAT, Parts
from positronic.utils.fields import ANY, WITH, above, between, one_of, path
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Console

    from positronic.bake.one_shard import ShardReport
    from positronic.bake.report import BakeReport
    from positronic.bake.run import BakeOptions
    from positronic.codecs.build import Recipe
    from positronic.raw.dataset import Dataset


@dataclass
class Convert(Parts):
    """Raw episodes into a LeRobot dataset.

    output_dir: folder of the baked dataset to write
    dataset_format: LeRobot's format: v3.0, or v2.1, which vendor.backend=upstream needs
    fps: frames per second; null takes modality.action_fps
    val_fraction: share of episodes to hold out, baked but in no statistics and not trained on; null holds out none
    val_seed: which ones; an episode's side follows from its name and this, whatever is added
    task: instruction for all episodes; null takes each one's own
    max_staleness_sec: an older image, or one picture for longer while the robot moves, is a bad episode; null: any age
    max_state_staleness_sec: the same for a state or command that stays while the rest of the episode moves
    on_bad_episode: stop, or skip it
    append: add to the dataset that is there, in one step
    on_duplicate: of an episode that the dataset holds already: stop, or skip it
    num_workers: processes; 0 is one per core
    shards: split the bake into so many parts, one job each with +cluster=..., or by hand with shard= and then join=true
    shard: bake this one alone, 1 to shards
    join: make the dataset of all shards
    shards_dir: folder for them that all machines see; null is beside output_dir
    video: how frames are stored
    """

    uses: ClassVar[tuple[str, ...]] = ("dataset", "embodiment", "codec", "modality", "storage")
    choices: ClassVar[tuple[str, ...]] = ("vendor",)

    output_dir: str = path("${paths.root}/baked/${dataset.name}/${vendor.name}/${codec.name}/${dataset_format}")
    dataset_format: str = one_of(keys.FORMAT_V30, keys.FORMAT_V21, default=DATASET_FORMAT)
    fps: int | None = between(1, default=None)
    val_fraction: float | None = above(0, 0.9, default=None)
    val_seed: int = between(0, default=0, val_fraction=ANY)
    task: str | None = None
    max_staleness_sec: float | None = above(0, default=1.0)
    max_state_staleness_sec: float | None = above(0, default=1.0)
    on_bad_episode: str = one_of("stop", "skip", default="stop")
    append: bool = False
    on_duplicate: str = one_of("stop", "skip", default="stop", append=True)
    num_workers: int = between(0, default=0)
    shards: int | None = between(1, default=None, append=False)
    shard: int | None = between(1, default=None, shards=ANY)
    join: bool = field(default=False, metadata={WITH: {"shards": ANY}})
    shards_dir: str | None = path(None, shards=ANY)
    video: VideoConfig = field(default_factory=VideoConfig)


@dataclass(frozen=True)
class Baked:
    """The result of stage=convert. ``path``: of the baked dataset, a folder or a URI. ``report``: what it holds."""

    path: str
    report: BakeReport

    def __rich__(self) -> BakeReport:
        return self.report

    def _repr_html_(self) -> str:
        return as_html(self)


@dataclass(frozen=True)
class BakedShard:
    """The result of stage=convert with ``shard``. ``path``: of that shard. ``report``: what was baked into it."""

    path: str
    report: ShardReport

    def __rich__(self) -> ShardReport:
        return self.report

    def _repr_html_(self) -> str:
        return as_html(self)


def run(config: Convert) -> Baked | BakedShard:
    """``bake``, and say what to type next. With ``shard`` that shard alone."""
    if config.shards is not None and not config.join:
        report = sharding.run_shard(config)
        return BakedShard(str(report.shard.folder), report)
    baked = bake(config)
    print(next_line_for(config.output_dir, config.vendor.name, config.codec.name))
    return baked


def bake(config: Convert) -> Baked:
    """Bake ``config.dataset`` into ``config.output_dir``, or join its shards, with a progress bar and a table.

    Raises PositronicError for what cannot be baked, and for a bad episode unless it is to be skipped; then there is no
    dataset.
    """
    from rich.console import Console

    from positronic.bake.convert import bake as bake_episodes
    from positronic.bake.convert import join
    from positronic.bake.progress import Bar
    from positronic.storage.outgoing import local_output
    from positronic.utils.provenance import provenance
    from positronic.vendors.registry import companions

    shards, console = sharding.shards_of(config), Console(stderr=True)  # stdout is for the table
    dataset, recipe, options = prepare(config, console)
    with local_output(config.output_dir, config.storage, keys.MANIFEST_FILE) as output, Bar(console) as progress:
        extra = companions(config.vendor.name, recipe, config.dataset_format)
        if shards is None:
            report = bake_episodes(dataset, recipe, output, options, provenance(), progress, extra)
        else:
            report = join(dataset, recipe, output, options, provenance(), shards, progress, extra)
    if shards is not None:
        shards.remove()
    report = replace(report, output=config.output_dir)
    Console().print(report)
    return Baked(config.output_dir, report)


def prepare(config: Convert, console: Console) -> tuple[Dataset, Recipe, BakeOptions]:
    """What is baked, through which codec, and how. Says on the console what of the recording is left out."""
    from positronic.bake.convert import BakeOptions
    from positronic.bake.robot import cameras_left_out, recorded_embodiment, says_robot
    from positronic.codecs.build import build
    from positronic.embodiments.embodiment import typed_embodiment
    from positronic.raw.dataset import open_from_config
    from positronic.storage import is_remote

    if config.append and is_remote(config.output_dir):
        raise PositronicError(
            f"append=true replaces a dataset in one step, which {config.output_dir} cannot do. Append to a local copy, "
            "and publish that under another name; or bake all episodes with output_dir=s3://<elsewhere>."
        )
    dataset = open_from_config(config.dataset)
    if dataset.chosen is not None:
        console.print(f"{dataset.chosen}.", highlight=False, soft_wrap=True, markup=False)
    robot = typed_embodiment(config.embodiment)
    recipe = build(config.codec, config.modality, embodiment=robot or recorded_embodiment(dataset))
    if config.fps is not None:
        recipe = recipe.at_fps(config.fps)
    left_out = cameras_left_out(dataset, recipe.codec)
    if left_out is not None and config.codec.images is None:
        console.print(left_out, highlight=False, soft_wrap=True, markup=False)
    options = BakeOptions(
        vendor=config.vendor.name,
        dataset_format=config.dataset_format,
        task=config.task,
        val_fraction=config.val_fraction,
        val_seed=config.val_seed,
        max_staleness_sec=config.max_staleness_sec,
        max_state_staleness_sec=config.max_state_staleness_sec,
        on_bad_episode=config.on_bad_episode,
        append=config.append,
        on_duplicate=config.on_duplicate,
        num_workers=config.num_workers,
        video=config.video,
        robot_is_told=robot is not None or not says_robot(dataset),
    )
    return dataset, recipe, options


def next_line_for(dataset: str, vendor: str, codec: str) -> str:
    """What to type after a bake: train if such datasets are trained here, otherwise look at the dataset."""
    from positronic.utils.command_line import next_line
    from positronic.vendors.registry import VENDORS

    place = {"input_path": dataset}
    if vendor in VENDORS:
        return next_line("train", place, {"vendor": vendor, "codec": codec})
    return next_line("stats", place | {"report": "true"})
