"""Raw episodes through a codec into a LeRobot dataset: the whole bake."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from positronic.bake.append import require_appendable, take_rest
from positronic.bake.companions import Companion
from positronic.bake.density import require_density
from positronic.bake.holdout import require_two_sides
from positronic.bake.manifest import Manifest, read_manifest
from positronic.bake.orientation import with_reference_rotations, with_references_of
from positronic.bake.pieces import Pieces, asked_of, pieces_path
from positronic.bake.report import BakeReport, write_report
from positronic.bake.run import BakeOptions, Progress, Run
from positronic.bake.sampling import require_signals
from positronic.bake.shards import Shards
from positronic.bake.sidecar import read_sources
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError, listing
from positronic.raw.dataset import Dataset
from positronic.storage import exists, local_path, publish_folder

logger = logging.getLogger(__name__)


def bake(
    dataset: Dataset,
    recipe: Recipe,
    output: str | Path,
    options: BakeOptions,
    provenance: Mapping[str, Any],
    progress: Progress | None = None,
    companions: Mapping[str, Companion] | None = None,
) -> BakeReport:
    """Bake every episode of ``dataset`` at the codec's fps and publish the result at ``output``, or nothing.

    With ``options.append``, one step replaces the dataset at ``output`` by one that also has these episodes. If a bake
    of the same recipe to the same place was interrupted, its finished episodes are used. ``companions``: a vendor's own
    files.

    Raises PositronicError for a codec that cannot be baked, for an output that exists (when appending: that is missing,
    or was baked otherwise), for a missing signal, for an encoder that refuses its settings, and for bad episodes and
    duplicates unless they are to be skipped.
    """
    started = time.monotonic()
    planned = plan(dataset, recipe, options, provenance)
    require_bakeable(dataset, recipe, output, options.append)
    before = _appended_to(dataset, output, options, planned)
    asked = asked_of(planned)
    recipe = _oriented(recipe, dataset, before, options.num_workers)
    planned = replace(planned, recipe=recipe.to_dict())
    with (
        publish_folder(output, replace=before is not None) as folder,  # first: whoever has its lock has the pieces
        Pieces(pieces_path(output), asked) as pieces,
        closing(Run(dataset, recipe, options, folder, progress or Progress())) as run,
    ):
        if before is not None:
            run.go_on(local_path(output), before)
        run.episodes(run.baked(pieces.folder), pieces.found)
        report = _finish(run, output, before, planned, companions or {})
        if before is not None:
            _say_left(take_rest(local_path(output), folder))
    return replace(report, seconds=time.monotonic() - started)


def join(
    dataset: Dataset,
    recipe: Recipe,
    output: str | Path,
    options: BakeOptions,
    provenance: Mapping[str, Any],
    shards: Shards,
    progress: Progress | None = None,
    companions: Mapping[str, Companion] | None = None,
) -> BakeReport:
    """Publish at ``output`` what ``bake`` would, to the byte, of the episodes that were baked in ``shards``.

    Raises PositronicError as ``bake`` does, and for a shard that is missing, damaged or of another bake.
    """
    started, progress = time.monotonic(), progress or Progress()
    planned = plan(dataset, recipe, options, provenance)
    require_bakeable(dataset, recipe, output)
    shards.require_complete(dataset, planned, options.robot_is_told)
    _appended_to(dataset, output, options, planned)
    recipe = with_references_of(recipe, shards.movements())
    planned = replace(planned, recipe=recipe.to_dict())
    with (
        publish_folder(output) as folder,
        closing(Run(dataset, recipe, options, folder, progress)) as run,
    ):
        run.episodes(shards.results(dataset, recipe, progress.counter))
        report = _finish(run, output, None, planned, companions or {})
    return replace(report, seconds=time.monotonic() - started)


def _finish(
    run: Run, output: str | Path, before: Manifest | None, planned: Manifest, companions: Mapping[str, Companion]
) -> BakeReport:
    """Write what is said of the whole dataset."""
    manifest = run.finish(planned if before is None else before, planned, companions)
    report = run.report(output, manifest)
    write_report(run.folder, report)
    run.seal(manifest)  # after every file that it lists; what others added is no matter of the bake
    return report


def _say_left(names: Sequence[str]) -> None:
    if names:
        logger.warning(
            "Left out, because another program made them for the old episodes and nothing here can make them again: %s",
            listing(names),
        )


def require_bakeable(dataset: Dataset, recipe: Recipe, output: str | Path | None, append: bool = False) -> None:
    """Raise PositronicError for a codec that cannot be baked, an output that exists unless it is appended to, and a
    recording that lacks signals or is too sparse. ``output``: None is not looked at."""
    codec = recipe.codec
    if codec.inference_only:
        raise PositronicError(f"Codec '{codec.name}' cannot be converted with: {codec.inference_only}")
    if output is not None and not append and exists(output):
        raise PositronicError(
            f"{output} exists already. Remove it, add to it with append=true, or bake elsewhere with output_dir=..."
        )
    require_signals(dataset, codec)
    require_density(dataset, codec.signals, codec.timing.fps)


def _appended_to(dataset: Dataset, output: str | Path, options: BakeOptions, planned: Manifest) -> Manifest | None:
    """The manifest of the dataset to append to. Raises PositronicError when the episodes do not fit into it, or when of
    all together none or each would be held out."""
    before = read_manifest(output) if options.append else None
    if before is not None:
        require_appendable(before, planned, output)
    if options.holdout is not None:  # before hours of encoding
        there = [] if before is None else read_sources(local_path(output), before).uids
        require_two_sides(options.holdout, [*there, *(episode.without_cameras().uid for episode in dataset)])
    return before


def _oriented(recipe: Recipe, dataset: Dataset, before: Manifest | None, num_workers: int) -> Recipe:
    """The recipe with the reference rotations of the dataset that is appended to, or of the episodes to be baked."""
    if before is not None:
        return recipe.with_reference_rotations(before.load_recipe().reference_rotations)
    return with_reference_rotations(recipe, dataset, num_workers)


def plan(dataset: Dataset, recipe: Recipe, options: BakeOptions, provenance: Mapping[str, Any]) -> Manifest:
    """The manifest, without the counts."""
    return Manifest(
        recipe=recipe.to_dict(),
        fps=recipe.codec.timing.fps,
        dataset_format=options.dataset_format,
        vendor=options.vendor,
        episodes=0,
        frames=0,
        digest="",
        signals=list(recipe.codec.signals),
        reader=asdict(dataset.naming),
        task=options.task,
        max_staleness_sec=options.max_staleness_sec,
        max_state_staleness_sec=options.max_state_staleness_sec,
        video=asdict(options.video),
        choice=dataset.chosen and dataset.chosen.to_dict(),
        held_out=options.holdout and options.holdout.to_dict([]),
        provenance=dict(provenance),
    )
