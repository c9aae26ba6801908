"""Vendors by name. Each is imported when it is asked for, not before."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from positronic.errors import PositronicError, did_you_mean, listing

if TYPE_CHECKING:  # what imports torch, numpy, pyarrow
    from positronic.bake.companions import Companion
    from positronic.codecs.build import Recipe
    from positronic.training.trainable import TrainableFactory
    from positronic.vendors.model import ChunkModel

NATIVE = "native"

# vendor -> module with `require_trainable`, which imports nothing heavy
LIGHT = {
    "gr00t": "positronic.vendors.gr00t.settled",
    "lerobot": "positronic.policies.library",
    "openpi": "positronic.vendors.openpi.configs",
}

# vendor -> backend -> module with `check_policy`, `make_trainable` and `load_model`
BACKENDS = {
    "gr00t": {NATIVE: "positronic.vendors.gr00t.native"},
    "lerobot": {NATIVE: "positronic.vendors.lerobot.native"},
    "openpi": {NATIVE: "positronic.vendors.openpi.native"},
}

# vendor -> module with `companions`, light enough for a bake
OWN_FILES = {"gr00t": "positronic.vendors.gr00t.modality", "openpi": "positronic.vendors.openpi.norm_stats"}


def companions(vendor: str, recipe: Recipe, dataset_format: str) -> dict[str, Companion]:
    """The vendor's own files in a baked dataset: name -> content.

    Raises PositronicError for a recipe that the vendor's own code could not use.
    """
    if vendor not in OWN_FILES:
        return {}
    return importlib.import_module(OWN_FILES[vendor]).companions(recipe, dataset_format)


def trainable(vendor: str, backend: str = NATIVE) -> TrainableFactory:
    """What builds the vendor's policy for training. Raises PositronicError for an unknown vendor or backend."""
    return _module(vendor, backend).make_trainable


def require_trainable(vendor: str, policy: Mapping[str, Any], modality: Any) -> None:
    """Raise PositronicError when ``policy`` is of a type that cannot be trained, or ``modality`` asks for what this
    vendor does not have; light, for the composition."""
    if vendor in LIGHT:
        importlib.import_module(LIGHT[vendor]).require_trainable(policy, modality)


def check_policy(vendor: str, backend: str, recipe: Recipe, policy: Mapping[str, Any]) -> None:
    """Raise PositronicError when ``policy`` is not what the vendor's library takes, before a dataset is opened."""
    _module(vendor, backend).check_policy(recipe, policy)


def load_model(vendor: str, checkpoint: Path, device: str, backend: str = NATIVE) -> ChunkModel:
    """The model in folder ``checkpoint`` (``<experiment>/checkpoints/<id>``) on torch ``device`` (``auto`` as well).

    Raises PositronicError for an unknown vendor or backend, and for a checkpoint that cannot be loaded.
    """
    return _module(vendor, backend).load_model(Path(checkpoint), device)


def _module(vendor: str, backend: str) -> ModuleType:
    if vendor not in BACKENDS:
        hint = did_you_mean(vendor, BACKENDS)
        raise PositronicError(f"Unknown vendor '{vendor}'. Expected one of {listing(BACKENDS)}.{hint}")
    backends = BACKENDS[vendor]
    if backend not in backends:
        raise PositronicError(f"Vendor '{vendor}' has no backend '{backend}', only {listing(backends)}.")
    return importlib.import_module(backends[backend])
