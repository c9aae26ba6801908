"""What every stage has. A stage's dataclass, derived from Parts, is the type of the whole config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.hardware.config import HardwareConfig
from positronic.raw.config import DatasetConfig
from positronic.rollout.config import DriverConfig, PolicyConfig
from positronic.serving.config import ServerConfig
from positronic.storage.config import StorageConfig
from positronic.training.config import TrackerConfig
from positronic.vendors.config import VendorConfig


@dataclass
class PathsConfig:
    """``root``: a folder, or s3://<bucket>/<folder>, under which raw/, baked/, checkpoints/ and rollouts/ lie."""

    root: str = "data"


@dataclass
class Parts:
    """The replaceable parts, one per config group.

    ``uses``: the parts that this stage cannot do without; a value missing elsewhere does not stop it. ``stages``: what
    a preset says to each stage; the chosen stage's section is folded into the config and this is empty afterwards.
    ``profile``: write ``profile.txt``, where the time went by function, into the run's folder.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    stage: str = MISSING
    dataset: DatasetConfig = MISSING
    vendor: VendorConfig = MISSING
    codec: CodecConfig = MISSING
    modality: ModalityConfig = MISSING
    hardware: HardwareConfig = MISSING
    server: ServerConfig = MISSING
    policy: PolicyConfig = MISSING
    driver: DriverConfig = MISSING
    tracker: TrackerConfig = MISSING
    storage: StorageConfig = field(default_factory=StorageConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    stages: dict[str, Any] = field(default_factory=dict)
    profile: bool = False
