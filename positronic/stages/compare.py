"""stage=compare: is one policy better than another? Evaluations on the same seeds, held against the first of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from positronic.stages.base import Parts
from positronic.utils.fields import between, path, paths
from positronic.utils.html import as_html

if TYPE_CHECKING:
    from rich.console import Group

    from positronic.cluster.models import Model
    from positronic.rollout.comparison import Comparison
    from positronic.storage.config import StorageConfig

NUMBERS_FILE, PAGE_FILE, PLOT_FILE = "comparison.json", "comparison.html", "comparison.png"


@dataclass
class Compare(Parts):
    """Is one policy better than another? Evaluations on the same seeds, held against the first of them.

    rollouts: folders that stage=infer has written, [first,second,...]; the others are compared with the first
    models: instead of them: each model's name and values, {act: ["vendor=lerobot"], gr00t: ["vendor=gr00t"]}; all are
        baked for, trained, served and evaluated on the same seeds, and other typed values are for all of them
    output_dir: folder for the page, which is replaced there, also in a bucket; null is
        <paths.root>/comparisons/<first>_and_<second>...
    save_videos: of how many seeds that went differently videos are made, from recordings on this machine
    chains: what each stage of each model is told; it follows from what is typed
    """

    submits: ClassVar[bool] = True
    hands_on: ClassVar[bool] = True

    uses: ClassVar[tuple[str, ...]] = ("storage",)
    null_takes: ClassVar[Mapping[str, str]] = {"output_dir": "paths.root"}

    rollouts: list[str] | None = field(default=None, metadata=paths(2, "folders that stage=infer has written"))
    models: dict[str, list[str]] = field(default_factory=dict)
    output_dir: str | None = path(None)
    save_videos: int = between(0, default=4)
    chains: dict[str, list[list[str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """The result of stage=compare. ``path``: of comparison.html, .json and .png, a folder or a URI. ``comparison``:
    rates, differences and seeds."""

    path: str
    comparison: Comparison

    def __rich__(self) -> Group:
        return self.comparison.__rich__()

    def _repr_html_(self) -> str:
        return as_html(self)


@dataclass(frozen=True)
class ModelsCompared:
    """The result of stage=compare with models. ``path``: of the page and models.json. ``models``: a row for each.
    ``comparison``: of those that were evaluated; None if fewer than two were, or while jobs still run."""

    path: str
    models: Sequence[Model]
    comparison: Comparison | None


def run(config: Compare) -> Compared | ModelsCompared:
    """Compare, print the result, and write the page. Raises PositronicError when the evaluations cannot be compared."""
    if config.rollouts is None:
        from positronic.stages.models import compare_models

        return compare_models(config)
    return compare_folders(config.rollouts, config.storage, config.output_dir, config.save_videos, config.paths.root)


def compare_folders(
    rollouts: Sequence[str],
    storage: StorageConfig,
    output_dir: str | None,
    save_videos: int,
    root_of_all: str = "",
    section: str = "",
) -> Compared:
    """As ``run``, of evaluations in these folders. ``output_dir``: None for a place below ``root_of_all``. ``section``:
    HTML for the page, before the seeds."""
    from rich.console import Console

    from positronic.rollout.comparison import compare, comparison_dict
    from positronic.rollout.comparison_films import films_of
    from positronic.rollout.comparison_page import comparison_html
    from positronic.rollout.comparison_plot import comparison_png
    from positronic.storage import is_remote, join
    from positronic.storage.folder import folder
    from positronic.storage.outgoing import replaced_output
    from positronic.utils.files import replace_bytes, replace_text

    comparison = compare([folder(each, storage) for each in rollouts])
    place = output_dir or _named_after(comparison, root_of_all)
    with replaced_output(place, storage, PAGE_FILE) as root:
        root.mkdir(parents=True, exist_ok=True)
        replace_text(root / NUMBERS_FILE, json.dumps(comparison_dict(comparison), indent=1) + "\n")
        plot = comparison_png(comparison)
        replace_bytes(root / PLOT_FILE, plot)
        films = films_of(comparison, root, save_videos)
        replace_text(
            root / PAGE_FILE, comparison_html(comparison, plot, None if is_remote(place) else root, films, section)
        )
    Console().print(comparison.__rich__(), highlight=False)
    print(f"  page:     {join(place, PAGE_FILE)}\n  numbers:  {join(place, NUMBERS_FILE)}")
    print("  next:     open the page in a browser")
    return Compared(place, comparison)


def _named_after(comparison: Comparison, root_of_all: str) -> str:
    """Where the page goes if no folder is typed: the same evaluations have the same place."""
    names = [each.name.replace("/", "_") for each in comparison.evaluations]
    return f"{root_of_all}/comparisons/{'_and_'.join(names)}"
