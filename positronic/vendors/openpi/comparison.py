"""A dataset's statistics beside those that openpi's own script computes of it, number by number."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from positronic.bake.features import dimension_names
from positronic.bake.manifest import Manifest
from positronic.codecs.build import Recipe
from positronic.upstream.checkout import Checkout, find_checkout
from positronic.upstream.child import Command, run
from positronic.upstream.failures import failure
from positronic.vendors.config import VendorConfig
from positronic.vendors.openpi.cache import TOKENIZER, require_cached
from positronic.vendors.openpi.configs import POLICY_TYPE
from positronic.vendors.openpi.launcher import launched
from positronic.vendors.openpi.norm_stats import FILE_NAME, REPO_ID, WRITTEN, norm_stats, norm_stats_path
from positronic.vendors.openpi.spec import SPEC_FILE, fields, spec
from positronic.vendors.openpi.upstream import DATA, OpenPi, variables

BATCH, WORKERS = 32, 2  # openpi's own; a smaller dataset is one batch
OUT, LOG = "out", "upstream.log"  # in the scratch folder
BAR = re.compile(r"\b(\d+)/(\d+) \[")  # of tqdm, over batches
PARTS = ("state", "actions")  # of norm_stats.json
EPSILON = 1e-6  # that openpi adds to the span when it normalises


class Difference(NamedTuple):
    """``name``: of the dimension. ``ours``, ``theirs``: mean, std, q01, q99. ``share``: the largest difference of these
    four as a share of what openpi divides by, q99 - q01 and a little more."""

    part: str
    name: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def share(self) -> float:
        difference = np.max(np.abs(np.subtract(self.ours, self.theirs)))
        return float(difference / (self.ours[3] - self.ours[2] + EPSILON))


@dataclass(frozen=True)
class Comparison:
    """``dropped``: frames of the last, partial batch, which openpi's script leaves out. ``held_out``: episodes that are
    in its numbers, and not in ours."""

    place: str
    source: str
    differences: tuple[Difference, ...]
    frames: int
    batch: int
    held_out: int

    @property
    def dropped(self) -> int:
        return self.frames % self.batch

    def __rich__(self) -> Group:
        table = Table("", *WRITTEN, "difference", title=f"{self.place}: ours, and below openpi's")
        for column in table.columns[1:]:
            column.justify = "right"
        for each in self.differences:
            pairs = [f"{ours:.4f}\n{theirs:.4f}" for ours, theirs in zip(each.ours, each.theirs, strict=True)]
            table.add_row(f"{each.part}\n{each.name}", *pairs, f"{each.share:.2%}")
        return Group(table, *map(Text, self.lines()))

    def lines(self) -> list[str]:
        """What the table comes to, and why numbers differ."""
        most = max(self.differences, key=lambda each: each.share)
        where = f"{most.part} {most.name}"
        lines = [f"Computed by {self.source}. The largest difference is {most.share:.2%} of q99 - q01 ({where})."]
        if self.dropped:
            lines.append(
                f"openpi's script takes whole batches of {self.batch} alone: it left out the last {self.dropped} of "
                f"{self.frames} frames, which ours cover. Numbers differ because of that."
            )
        if self.held_out:
            lines.append(
                f"It reads every episode; ours leave out the {self.held_out} that are held out. Numbers differ because "
                "of that."
            )
        lines.append("Its quantiles are those of histograms with 5000 bins; ours are exact.")
        return [*lines, "Nothing was written into the dataset: training takes ours."]


def compare(root: Path, place: str, manifest: Manifest, vendor: VendorConfig, console: Console) -> Comparison:
    """Run openpi's ``scripts/compute_norm_stats.py`` on the dataset in ``root``, which people call ``place``, without
    writing into it.

    Raises PositronicError for a checkout, an interpreter or a tokenizer that is missing, and when the script fails.
    """
    recipe, repository = manifest.load_recipe(), OpenPi.repository
    checkout = find_checkout(repository, vendor.repo, vendor.python)
    require_cached(TOKENIZER, "The tokenizer of π0.5 is missing", str(checkout.python))
    told = root / norm_stats_path(recipe)
    held_out = manifest.held_out_episodes
    ours = told.read_text() if told.is_file() else norm_stats(recipe).text(root, held_out)
    batch = min(BATCH, manifest.frames)
    with _scratch() as scratch, _bar(console) as on_line:
        ended = run(_command(checkout, recipe, root, scratch, batch), scratch / LOG, on_line)
        if ended.code:
            raise failure(ended, f"Computing statistics with {repository.name}", OpenPi.symptoms)
        theirs = (scratch / OUT / recipe.modality_config.config_name / REPO_ID / FILE_NAME).read_text()
    differences = tuple(_differences(recipe, json.loads(ours), json.loads(theirs)))
    return Comparison(place, str(checkout.source), differences, manifest.frames, batch, len(held_out))


def _command(checkout: Checkout, recipe: Recipe, root: Path, scratch: Path, batch: int) -> Command:
    (scratch / DATA).mkdir()
    (scratch / DATA / REPO_ID).symlink_to(root.absolute())
    of_stats = {"batch_size": batch, "num_workers": WORKERS, "assets_base_dir": str(scratch / OUT)}
    told = spec(recipe, fields(recipe, {"type": POLICY_TYPE}), "float32") | {"stats": of_stats}
    (scratch / SPEC_FILE).write_text(json.dumps(told, indent=2) + "\n")
    arguments = launched(checkout, "stats", scratch / SPEC_FILE, {})
    return Command(arguments, scratch, variables("cpu", scratch))  # a GPU would only be taken from others


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, but for the log of what failed."""
    folder = Path(tempfile.mkdtemp(prefix="positronic_openpi_"))
    try:
        yield folder
    except Exception:
        for path in folder.iterdir():
            if path.is_symlink() or not path.name.startswith(LOG):
                _remove(path)
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _bar(console: Console) -> Iterator[Any]:
    columns = (TextColumn("openpi's batches"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("stats", total=None)

        def on_line(line: str) -> None:
            if (bar := BAR.search(line)) is not None:
                progress.update(task, completed=int(bar[1]), total=int(bar[2]))

        yield on_line


def _differences(recipe: Recipe, ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Difference]:
    """Of each dimension of both vectors, zeros behind them left out."""
    columns = {column.name: column for column in recipe.modality.columns}
    numbers = norm_stats(recipe)
    for part, column in zip(PARTS, (numbers.state, numbers.action), strict=True):
        sides = [_rows(each["norm_stats"][part]) for each in (ours, theirs)]
        for name, *rows in zip(dimension_names(columns[column]), *sides, strict=False):
            yield Difference(part, name, *rows)


def _rows(stats: dict[str, Sequence[float]]) -> list[tuple[float, ...]]:
    return list(zip(*(stats[name] for name in WRITTEN), strict=True))
