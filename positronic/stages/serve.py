"""stage=serve: checkpoints behind the inference API."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from positronic.codecs.config import FROM_CHECKPOINT
from positronic.stages.base import Parts
from positronic.utils.fields import name, path

if TYPE_CHECKING:
    from positronic.serving.policy import Typed


@dataclass
class Serve(Parts):
    """Checkpoints behind the inference API.

    checkpoints_dir: an experiment's folder, the one that holds checkpoints/, or a folder of experiments
    checkpoint: id of the checkpoint that is served by default, or <experiment>/<id>; null takes the latest
    """

    uses: ClassVar[tuple[str, ...]] = ("server", "storage")
    choices: ClassVar[tuple[str, ...]] = ("embodiment", "vendor", "codec")  # compared with the checkpoint's
    compares: ClassVar[tuple[str, ...]] = tuple(
        f"vendor.{each}" for each in ("backend", "repo", "python", "ready_timeout_sec", "infer_timeout_sec")
    )

    checkpoints_dir: str = path(MISSING)
    checkpoint: str | None = name(None, "a checkpoint's id")


def run(config: Serve) -> None:
    """Serve until SIGINT or SIGTERM."""
    from positronic.serving.server import serve
    from positronic.serving.settings import ServerSettings
    from positronic.storage.folder import folder
    from positronic.vendors import registry

    place = folder(config.checkpoints_dir, config.storage)
    by_vendor = config.vendor.backend == registry.UPSTREAM
    loader = {"loader": partial(registry.serve_upstream, config=config.vendor)} if by_vendor else {}
    serve(ServerSettings(place, config.checkpoint, typed(config), **loader, **vars(config.server)))


def typed(config: Serve) -> Typed:
    """What was typed about the policy. The checkpoint says the rest."""
    from positronic.embodiments.embodiment import typed_embodiment
    from positronic.serving.policy import Typed

    vendor = None if config.vendor.name == FROM_CHECKPOINT else config.vendor.name
    robot = typed_embodiment(config.embodiment)
    if config.codec.name == FROM_CHECKPOINT:
        return Typed(vendor, embodiment=robot)
    return Typed(vendor, config.codec, config.modality, robot)
