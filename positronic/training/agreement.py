"""Before a run: is there a dataset, and was it baked with what this run asks for?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from positronic.bake.manifest import Manifest, read_manifest
from positronic.codecs.build import Recipe, build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.errors import PositronicError
from positronic.storage import exists


def find_manifest(root: Path, convert: str) -> Manifest:
    """The manifest of the dataset at ``root``. Raises PositronicError, naming ``convert``, when there is none."""
    if not exists(root):
        raise PositronicError(f"input_path: there is no baked dataset at {root}. Make it with:\n  {convert}")
    return read_manifest(root)


def agreed_recipe(
    codec: CodecConfig, modality: ModalityConfig, manifest: Manifest, dataset: str, convert: str
) -> Recipe:
    """The dataset's recipe, at its own rate, with the horizon that this run asks for.

    Raises ConventionError when codec and modality are not those that the dataset was baked with.
    """
    baked = manifest.load_recipe()
    hint = (
        f"Train with codec={baked.codec.name} and the same modality values, or bake this codec with:\n  {convert}\n"
        "(an existing dataset is not overwritten: remove it first, or choose another output_dir and input_path)."
    )
    baked.require_same(build(codec, modality), f"the dataset {dataset}", "this run", hint)
    horizon = replace(baked.modality_config, action_horizon_sec=modality.action_horizon_sec)
    return build(baked.codec_config, horizon, baked.reference_rotations)
