"""Adding episodes to a baked dataset: what must agree, and which files the old and the new dataset share on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from positronic.bake.files import link
from positronic.bake.manifest import Manifest
from positronic.bake.reading import read_object
from positronic.conventions import require_equal
from positronic.errors import PositronicError
from positronic.raw.naming import Naming

DESCRIPTIONS = ("meta", "assets")
HINT = "Convert with the same settings to append, or bake a dataset of its own with output_dir=<another folder>."


def require_appendable(before: Manifest, after: Manifest, output: str | Path) -> None:
    """Raise ConventionError, both sides printed, when episodes baked as ``after`` says do not fit into the dataset
    ``output``."""
    before.load_recipe().require_same(after.load_recipe(), str(output), "this bake", HINT)
    require_equal(str(output), _settings(before), "this bake", _settings(after), HINT)


def require_same_names(info: Path, features: Mapping[str, dict[str, Any]]) -> None:
    """Raise PositronicError when file ``info`` names the numbers of a column differently, or lists them in another
    order.

    Columns of the same length could be appended to each other although they mean different things.
    """
    there = read_object(info)["features"]
    for name, feature in features.items():
        found = there[name].get("names")
        if found != feature["names"]:
            raise PositronicError(
                f"{info}: column '{name}' holds {found}; this bake would add {feature['names']}. {HINT}"
            )


def take_over(old: Path, new: Path, kept: Sequence[str]) -> None:
    """Give ``new`` the files of ``old`` named by ``kept``. Files in its folders become hard links, because nobody
    writes to them again; single files are copied."""
    for name in kept:
        source = old / name
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            target = new / path.relative_to(old)
            if path.is_dir():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copyfile if path == source else link)(path, target)


def take_rest(old: Path, new: Path) -> list[str]:
    """Give ``new`` the files of ``old`` that somebody added.

    Those in DESCRIPTIONS are left out and returned. Another program computed them (upstream GR00T its
    ``relative_stats.json``), and nobody would notice that they do not cover the new episodes.
    """
    left = []
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old)
        if not path.is_file() or (new / name).exists():
            continue
        if name.parts[0] in DESCRIPTIONS:
            left.append(str(name))
            continue
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        link(path, new / name)
    return left


def _settings(manifest: Manifest) -> dict[str, str]:
    """What must agree beside the recipe's contract. Values of the modality go into the vendor's own files."""
    modality = manifest.load_recipe().modality_config
    # Aliases may differ, they only rename; how the gripper was read may not.
    gripper = "open at 1, inverted while reading" if _naming(manifest).inverted_gripper else "0=open 1=closed"
    return {
        "vendor": manifest.vendor,
        "dataset_format": manifest.dataset_format,
        "fps": str(manifest.fps),
        "gripper in the recording": gripper,
        "video": json.dumps(manifest.video, sort_keys=True),
        "modality.task_key": modality.task_key,
        "modality.config_name": str(modality.config_name),
        "modality.action_chunk": str(modality.chunk_of_statistics),
        "val_fraction, val_seed": _holdout(manifest),
    }


def _holdout(manifest: Manifest) -> str:
    return "none held out" if manifest.holdout is None else f"{manifest.holdout.fraction}, {manifest.holdout.seed}"


def _naming(manifest: Manifest) -> Naming:
    return Naming(**manifest.reader)
