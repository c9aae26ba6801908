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
from positronic.bake.orientation import with_reference_rotations
from positronic.bake.pieces import Pieces
from positronic.bake.report import BakeReport, write_report
from positronic.bake.run import BakeOptions, Progress, Run
from positronic.bake.sampling import require_signals
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
    planned = _plan(dataset, recipe, options, provenance)
    before = _check(dataset, recipe, output, options, planned)
    asked = {name: getattr(planned, name) for name in ("recipe", "reader", "video")}
    # The software encodes the videos that pieces hold; reference rotations are of vectors, which are encoded anew.
    asked |= {"versions": planned.provenance.get("versions")}
    recipe = _oriented(recipe, dataset, before, options.num_workers)
    planned = replace(planned, recipe=recipe.to_dict())
    with (
        publish_folder(output, replace=before is not None) as folder,  # first: whoever has its lock has the pieces
        Pieces(output, asked) as pieces,
        closing(Run(dataset, recipe, options, folder, pieces, progress or Progress())) as run,
    ):
        if before is not None:
            run.go_on(local_path(output), before)
        run.episodes()
        manifest = run.finish(planned if before is None else before, planned, companions or {})
        report = run.report(output, manifest)
        write_report(folder, report)
        run.seal(manifest)  # after every file that it lists; what others added is no matter of the bake
        if before is not None:
            _say_left(take_rest(local_path(output), folder))
    return replace(report, seconds=time.monotonic() - started)


def _say_left(names: Sequence[str]) -> None:
    if names:
        logger.warning(
            "Left out, because another program made them for the old episodes and nothing here can make them again: %s",
            listing(names),
        )


def _check(
    dataset: Dataset, recipe: Recipe, output: str | Path, options: BakeOptions, planned: Manifest
) -> Manifest | None:
    """Refuse what cannot be baked. Returns the manifest of the dataset to append to."""
    codec = recipe.codec
    if codec.inference_only:
        raise PositronicError(f"Codec '{codec.name}' cannot be converted with: {codec.inference_only}")
    if not options.append and exists(output):
        raise PositronicError(
            f"{output} exists already. Remove it, add to it with append=true, or bake elsewhere with output_dir=..."
        )
    require_signals(dataset, codec)
    require_density(dataset, codec.signals, codec.timing.fps)
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


def _plan(dataset: Dataset, recipe: Recipe, options: BakeOptions, provenance: Mapping[str, Any]) -> Manifest:
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
