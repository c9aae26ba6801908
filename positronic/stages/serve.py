"""stage=serve: checkpoints behind the inference API."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from positronic.codecs.config import FROM_CHECKPOINT
from positronic.errors import PositronicError
from positronic.stages.base import Parts
from positronic.utils.fields import name, path

if TYPE_CHECKING:
    from positronic.codecs.build import Recipe
    from positronic.serving.policy import LoadModel, Typed
    from positronic.storage.place import Place


@dataclass
class Serve(Parts):
    """Checkpoints behind the inference API.

    checkpoints_dir: an experiment's folder, the one that holds checkpoints/, or a folder of experiments
    checkpoint: id of the checkpoint that is served by default, or <experiment>/<id>; null takes the latest
    """

    uses: ClassVar[tuple[str, ...]] = ("server", "storage")
    choices: ClassVar[tuple[str, ...]] = ("embodiment", "vendor", "codec")  # compared with the checkpoint's
    compares: ClassVar[tuple[str, ...]] = tuple(
        f"vendor.{each}"
        for each in (
            "backend",
            "repo",
            "python",
            "ready_timeout_sec",
            "infer_timeout_sec",
            "upstream_url",
            "config_name",
        )
    )

    checkpoints_dir: str = path(MISSING, also="gs://")
    checkpoint: str | None = name(None, "a checkpoint's id")


def run(config: Serve) -> None:
    """Serve until SIGINT or SIGTERM."""
    from positronic.serving.server import serve
    from positronic.serving.settings import ServerSettings

    place, loader = what(config)
    told = {} if loader is None else {"loader": loader}
    serve(ServerSettings(place, config.checkpoint, typed(config), **told, **vars(config.server)))


def what(config: Serve) -> tuple[Place, LoadModel | None]:
    """What is served, and how a model is loaded, None for the usual way.

    Raises PositronicError for a checkpoint that a vendor published, unless its codec was typed.
    """
    from positronic.storage.folder import folder
    from positronic.vendors import registry

    vendor, said = config.vendor, config.checkpoints_dir
    registry.require_address(vendor)
    found = registry.find_pretrained(said, vendor)
    if found is not None:
        place = registry.place_pretrained(said, found[1], _pretrained_recipe(config, found[0]), found[0])
        return place, partial(registry.serve_pretrained, config=vendor, info=place.info)
    if vendor.config_name is not None:
        raise PositronicError(
            f"vendor.config_name={vendor.config_name} is for a checkpoint that openpi published, a folder with params/ "
            f"and assets/. {said} says itself how it was trained: leave it out."
        )
    by_vendor = vendor.backend == registry.UPSTREAM
    return folder(said, config.storage), partial(registry.serve_upstream, config=vendor) if by_vendor else None


def _pretrained_recipe(config: Serve, vendor: str) -> Recipe:
    from positronic.codecs.build import build
    from positronic.vendors import registry

    is_typed = config.vendor.name == vendor and config.vendor.backend == registry.UPSTREAM
    if not is_typed or config.codec.name == FROM_CHECKPOINT:
        raise PositronicError(
            f"{config.checkpoints_dir} is a checkpoint that {vendor} published, and does not say how it was trained. "
            f"Type it as well: vendor={vendor} vendor.backend={registry.UPSTREAM} codec=droid."
        )
    return build(config.codec, config.modality, embodiment=typed(config).embodiment)


def typed(config: Serve) -> Typed:
    """What was typed about the policy. The checkpoint says the rest."""
    from positronic.embodiments.embodiment import typed_embodiment
    from positronic.serving.policy import Typed

    vendor = None if config.vendor.name == FROM_CHECKPOINT else config.vendor.name
    robot = typed_embodiment(config.embodiment)
    if config.codec.name == FROM_CHECKPOINT:
        return Typed(vendor, embodiment=robot)
    return Typed(vendor, config.codec, config.modality, robot)
