"""Vendors by name. Each is imported when it is asked for, not before."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from positronic.errors import PositronicError, did_you_mean, listing

if TYPE_CHECKING:  # what imports torch, numpy, pyarrow
    from rich.console import Console, RenderableType

    from positronic.bake.companions import Companion
    from positronic.bake.manifest import Manifest
    from positronic.codecs.build import Recipe
    from positronic.storage.place import Place
    from positronic.vendors.backend import Backend
    from positronic.vendors.config import VendorConfig
    from positronic.vendors.model import ChunkModel

NATIVE, UPSTREAM = "native", "upstream"


class Comparison(Protocol):
    """A dataset's statistics beside those of the vendor's own code."""

    def __rich__(self) -> RenderableType:
        """Both, number by number, and why they differ."""
        ...


@dataclass(frozen=True)
class Vendor:
    """The modules of a vendor. ``light`` has ``require_trainable``, and ``require_horizon`` where its models have a
    longest chunk; it imports nothing heavy. ``backends``: name -> module with ``BACKEND``. ``own_files`` has
    ``companions``, light enough for a bake; None: the vendor has no files of its own. ``comparison`` has ``compare``,
    which asks the vendor's own code for its statistics; None: it has none. ``pretrained`` has ``find`` and ``place``,
    for checkpoints that the vendor published; None: they cannot be served as they are."""

    light: str
    backends: Mapping[str, str]
    own_files: str | None = None
    comparison: str | None = None
    pretrained: str | None = None


VENDORS = {
    "gr00t": Vendor(
        light="positronic.vendors.gr00t.settled",
        backends={NATIVE: "positronic.vendors.gr00t.native", UPSTREAM: "positronic.vendors.gr00t.upstream"},
        own_files="positronic.vendors.gr00t.modality",
    ),
    "lerobot": Vendor(
        light="positronic.policies.library",
        backends={NATIVE: "positronic.vendors.lerobot.native"},
    ),
    "openpi": Vendor(
        light="positronic.vendors.openpi.configs",
        backends={NATIVE: "positronic.vendors.openpi.native", UPSTREAM: "positronic.vendors.openpi.upstream"},
        own_files="positronic.vendors.openpi.norm_stats",
        comparison="positronic.vendors.openpi.comparison",
        pretrained="positronic.vendors.openpi.pretrained",
    ),
}

FINE_TUNED = ("gr00t",)  # whose policies are only fine-tuned: of random weights of their size nothing would come


def companions(vendor: str, recipe: Recipe, dataset_format: str) -> dict[str, Companion]:
    """The vendor's own files in a baked dataset: name -> content.

    Raises PositronicError for a recipe that the vendor's own code could not use.
    """
    if vendor not in VENDORS or VENDORS[vendor].own_files is None:
        return {}
    return importlib.import_module(VENDORS[vendor].own_files).companions(recipe, dataset_format)


def compare_statistics(
    root: Path, place: str, manifest: Manifest, vendor: VendorConfig, console: Console
) -> Comparison:
    """The statistics of the dataset in ``root``, which people call ``place``, beside those of the vendor's own code.

    Nothing is written into it. Raises PositronicError for what the vendor's code lacks, and when it fails.
    """
    return importlib.import_module(VENDORS[vendor.name].comparison).compare(root, place, manifest, vendor, console)


def require_trainable(vendor: str, policy: Mapping[str, Any], modality: Any) -> None:
    """Raise PositronicError when ``policy`` is of a type that cannot be trained, or ``modality`` asks for what this
    vendor does not have; light, for the composition."""
    if vendor in VENDORS:
        importlib.import_module(VENDORS[vendor].light).require_trainable(policy, modality)


def require_horizon(vendor: str, steps: int | None) -> None:
    """Raise PositronicError when no model of the vendor predicts chunks of so many steps; light, for composing."""
    light = importlib.import_module(VENDORS[vendor].light) if vendor in VENDORS else None
    if hasattr(light, "require_horizon"):
        light.require_horizon(steps)


def backend_of(vendor: str, backend: str = NATIVE) -> Backend:
    """What trains and serves the vendor's policies. Raises PositronicError for an unknown vendor or backend."""
    if vendor not in VENDORS:
        hint = did_you_mean(vendor, VENDORS)
        raise PositronicError(f"Unknown vendor '{vendor}'. Expected one of {listing(VENDORS)}.{hint}")
    backends = VENDORS[vendor].backends
    if backend not in backends:
        raise PositronicError(f"Vendor '{vendor}' has no backend '{backend}', only {listing(backends)}.")
    return importlib.import_module(backends[backend]).BACKEND


def load_model(vendor: str, checkpoint: Path, device: str, backend: str = NATIVE) -> ChunkModel:
    """The model in folder ``checkpoint`` (``<experiment>/checkpoints/<id>``) on torch ``device`` (``auto`` as well).

    Raises PositronicError for an unknown vendor or backend, and for a checkpoint that is damaged or cannot be loaded.
    """
    from positronic.training.checkpoints import require_intact

    require_intact(Path(checkpoint))
    return load_intact(vendor, checkpoint, device, backend)


def load_intact(vendor: str, checkpoint: Path, device: str, backend: str = NATIVE) -> ChunkModel:
    """The same for a checkpoint whose files have been read and compared with what training wrote."""
    return backend_of(vendor, backend).load_model(Path(checkpoint), device)


def serve_upstream(vendor: str, checkpoint: Path, device: str, backend: str, *, config: VendorConfig) -> ChunkModel:
    """The model in folder ``checkpoint`` behind a server of the vendor's own code. ``backend``: which one trained it.

    Raises PositronicError for a vendor without one, and when its server does not start.
    """
    return backend_of(vendor, UPSTREAM).serve(Path(checkpoint), device, config)


def require_address(config: VendorConfig) -> None:
    """Raise PositronicError for a ``vendor.upstream_url`` that is no address."""
    if config.upstream_url is not None:
        from positronic.vendors.served import Elsewhere

        Elsewhere(config.upstream_url).port()


def find_pretrained(checkpoints_dir: str, config: VendorConfig) -> tuple[str, Path] | None:
    """Vendor and folder of a checkpoint that a vendor published; None for what else may be there.

    Raises PositronicError for one that has to be fetched first.
    """
    for name, vendor in VENDORS.items():
        if vendor.pretrained is not None:
            folder = importlib.import_module(vendor.pretrained).find(checkpoints_dir, config)
            if folder is not None:
                return name, folder
    return None


def place_pretrained(said: str, folder: Path, recipe: Recipe, vendor: str) -> Place:
    """Its folder as an experiment, of which ``recipe`` is what was typed. Raises PositronicError for a codec that is
    not for such checkpoints."""
    return importlib.import_module(VENDORS[vendor].pretrained).place(said, folder, recipe, vendor, UPSTREAM)


def serve_pretrained(
    vendor: str, folder: Path, device: str, backend: str, *, config: VendorConfig, info: str
) -> ChunkModel:
    """The model behind a server of the vendor's own code. ``info``: JSON, what ``positronic.json`` would hold."""
    module = importlib.import_module(VENDORS[vendor].backends[UPSTREAM])
    return module.SERVE_PRETRAINED(folder, device, config, json.loads(info))
