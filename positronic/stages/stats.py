"""stage=stats: compute the statistics of a baked dataset again, or report on its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from positronic import keys
from positronic.errors import PositronicError, listing
from positronic.stages.base import DATASET_FORMAT, Parts
from positronic.utils.fields import one_of, path
from positronic.utils.html import as_html
from positronic.vendors import registry

if TYPE_CHECKING:
    from rich.console import RenderableType

    from positronic.bake.inspection import Inspection
    from positronic.bake.manifest import Manifest
    from positronic.vendors.registry import Comparison


@dataclass
class Stats(Parts):
    """What is in a baked dataset. With ``vendor=openpi vendor.backend=upstream``, its statistics beside openpi's own.

    input_path: the baked dataset; it says itself what it was baked with
    dataset_format: part of the default input_path
    report: change nothing; print every dimension and what looks wrong, and draw histograms
    picture: file of the histograms; null is a PNG beside the dataset
    """

    uses: ClassVar[tuple[str, ...]] = ("storage",)
    compares: ClassVar[tuple[str, ...]] = ("vendor.backend", "vendor.repo", "vendor.python")
    silent: ClassVar[Mapping[str, tuple[Any, ...]]] = {"vendor.backend": (registry.NATIVE,)}

    input_path: str = path("${paths.root}/baked/${dataset.name}/${vendor.name}/${codec.name}/${dataset_format}")
    dataset_format: str = one_of(keys.FORMAT_V30, keys.FORMAT_V21, default=DATASET_FORMAT)
    report: bool = False
    picture: str | None = path(None, report=True)


@dataclass(frozen=True)
class Measured:
    """The result of stage=stats. ``path``: of the baked dataset, a folder or a URI.

    ``changed``: names of the files of statistics that were written. With ``report=true`` nothing is, and
    ``inspection`` holds every dimension with what looks wrong; ``picture``: where the histograms are, if they were
    drawn. ``comparison``: the dataset's statistics beside those of the vendor's own code, which is asked with
    ``vendor.backend=upstream``; then nothing is written either.
    """

    path: str
    changed: tuple[str, ...] = ()
    inspection: Inspection | None = None
    picture: Path | None = None
    comparison: Comparison | None = None

    def __rich__(self) -> RenderableType:
        """The table of the report or the comparison, or which files were written."""
        from rich.text import Text

        from positronic.bake.inspection_table import inspection_table

        if self.comparison is not None:
            return self.comparison.__rich__()
        if self.inspection is not None:
            return inspection_table(self.inspection, self.path)
        return Text(f"{self.path}: {f'{listing(self.changed)} written' if self.changed else 'nothing was different'}.")

    def _repr_html_(self) -> str:
        return as_html(self)


def run(config: Stats) -> Measured:
    """Write the statistics again, compare them with the vendor's own, or report.

    Raises PositronicError if the input is not a complete dataset of ours.
    """
    if config.report:
        return _report(config)
    if _asks_vendor(config):
        return _compare(config)
    return _recompute(config)


def _asks_vendor(config: Stats) -> bool:
    """Whether the vendor's own code is to be asked. It is, too, what the default ``input_path`` is baked for."""
    from positronic.utils.command_line import was_typed

    vendor, able = config.vendor, [name for name, each in registry.VENDORS.items() if each.comparison is not None]
    if vendor.backend != registry.UPSTREAM or vendor.name in able:
        return vendor.backend == registry.UPSTREAM
    if was_typed("input_path") or vendor.repo is not None or vendor.python is not None:
        raise PositronicError(
            f"vendor.backend=upstream: {vendor.name}'s own code has no statistics to compare with, only that of "
            f"vendor={listing(able)}. Leave it out to compute the dataset's files again."
        )
    return False


def _recompute(config: Stats) -> Measured:
    """Compute every file of statistics. Each is replaced in one step, and only if its content differs."""
    from rich.console import Console

    from positronic.bake.companions import companion_text
    from positronic.bake.manifest import read_manifest
    from positronic.bake.recompute import stats_json
    from positronic.bake.whole import record_again, require_unchanged, require_whole
    from positronic.storage import is_remote, local_path
    from positronic.utils.files import replace_text

    if is_remote(config.input_path):
        raise PositronicError(
            f"input_path: {config.input_path} is in a bucket, where no file of a dataset is changed. Look at it with "
            "report=true, or recompute a local copy: input_path=<folder>."
        )
    root, console = local_path(config.input_path), Console()
    manifest = read_manifest(root)
    own = registry.companions(manifest.vendor, manifest.load_recipe(), manifest.dataset_format)
    anew = [keys.STATS_FILE, *own]
    require_unchanged(root, manifest, require_whole(root, manifest, anew=anew), anew=anew)
    texts = {keys.STATS_FILE: stats_json(root, manifest)}
    texts |= {name: companion_text(companion, root, manifest.held_out_episodes) for name, companion in own.items()}
    written = []
    for name, text in texts.items():
        was_there = (root / name).exists()
        changed = replace_text(root / name, text)
        written += [name] if changed else []
        state = "unchanged" if not changed else "was different, written anew" if was_there else "was missing, written"
        console.print(f"{root / name}: {state}", markup=False, highlight=False, soft_wrap=True)
    record_again(root, manifest, anew)
    _say_next(config, manifest)
    return Measured(config.input_path, tuple(written))


def _compare(config: Stats) -> Measured:
    """Have the vendor's own code compute its statistics, and print both."""
    from rich.console import Console

    from positronic.bake.manifest import read_manifest
    from positronic.bake.whole import require_unchanged, require_whole
    from positronic.storage.folder import local_input
    from positronic.utils.command_line import instead

    console = Console()
    with local_input(config.input_path, config.storage, keys.MANIFEST_FILE) as root:
        manifest = read_manifest(root)
        if (manifest.vendor, manifest.dataset_format) != (config.vendor.name, keys.FORMAT_V21):
            convert = instead("convert", {"vendor": config.vendor.name}, {"dataset_format": keys.FORMAT_V21})
            raise PositronicError(
                f"{config.input_path} was baked for {manifest.vendor} in format {manifest.dataset_format}; "
                f"{config.vendor.name}'s own code reads one that was baked for it in {keys.FORMAT_V21}. Make it with:"
                f"\n  {convert}"
            )
        derived = [keys.STATS_FILE, *registry.companions(manifest.vendor, manifest.load_recipe(), keys.FORMAT_V21)]
        require_unchanged(root, manifest, require_whole(root, manifest, anew=derived), anew=derived)
        told = registry.compare_statistics(root, config.input_path, manifest, config.vendor, console)
    console.print(told)
    _say_next(config, manifest)
    return Measured(config.input_path, comparison=told)


def _report(config: Stats) -> Measured:
    from rich.console import Console

    from positronic.bake.inspection import inspect, is_needed
    from positronic.bake.inspection_plot import inspection_png
    from positronic.bake.inspection_table import inspection_table
    from positronic.bake.manifest import read_manifest
    from positronic.bake.whole import require_unchanged, require_whole
    from positronic.storage import is_remote
    from positronic.storage.folder import local_input
    from positronic.utils.files import replace_bytes

    console, needs = Console(), keys.MANIFEST_FILE
    with local_input(config.input_path, config.storage, needs, is_needed) as root:
        manifest = read_manifest(root)
        videos, derived = not is_remote(config.input_path), [keys.STATS_FILE]
        whole = require_whole(root, manifest, videos=videos, anew=derived)
        require_unchanged(root, manifest, whole, videos, derived)
        inspection = inspect(root, manifest)
    codec = manifest.load_recipe().codec.name
    title = f"{config.input_path} ({manifest.vendor}, {codec}, {manifest.dataset_format})"
    console.print(inspection_table(inspection, title))
    picture = _picture(config)
    if picture is None:
        console.print("For the histograms of a dataset in a bucket, type picture=<file>.png.")
    else:
        replace_bytes(picture, inspection_png(inspection, title))
        console.print(f"Histograms: {picture}", markup=False, highlight=False, soft_wrap=True)
    _say_next(config, manifest)
    return Measured(config.input_path, inspection=inspection, picture=picture)


def _say_next(config: Stats, manifest: Manifest) -> None:
    from positronic.stages.convert import next_line_for

    codec = manifest.load_recipe().codec.name
    print(next_line_for(config.input_path, manifest.vendor, codec))


def _picture(config: Stats) -> Path | None:
    """Beside the dataset, not in it, because a dataset's files depend only on what was recorded."""
    from positronic.storage import is_remote, local_path

    if config.picture is not None:
        return local_path(config.picture)
    if is_remote(config.input_path):
        return None
    root = local_path(config.input_path).absolute()
    return root.with_name(f"{root.name}_stats.png")
