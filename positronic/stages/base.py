"""What every stage has. A stage's dataclass, derived from Parts, is the type of the whole config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from positronic import keys
from positronic.cluster.config import ClusterConfig, SweepConfig
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.embodiments.config import EmbodimentConfig
from positronic.hardware.config import HardwareConfig
from positronic.raw.config import DatasetConfig
from positronic.rollout.config import DriverConfig, PolicyConfig
from positronic.serving.config import ServerConfig
from positronic.storage.config import StorageConfig
from positronic.training.config import TrackerConfig
from positronic.utils.command_line import Composed
from positronic.utils.fields import path
from positronic.vendors.config import VendorConfig

DATASET_FORMAT = "${by_backend:${vendor.backend}," + f"{keys.FORMAT_V30},{keys.FORMAT_V21}" + "}"
"""The format of datasets that are made for ``vendor.backend``; in this process the other one is read too."""


@dataclass
class PathsConfig:
    """Where everything lies.

    root: folder, or s3://<bucket>/<folder>, of raw/, baked/, checkpoints/ and rollouts/
    """

    root: str = path("data")


@dataclass
class Parts:
    """The replaceable parts, one per config group.

    ``uses``, ``choices``, ``ignores``, ``compares``, ``silent`` and ``null_takes`` say what a stage reads;
    ``positronic/reads.py`` refuses typed values that it does not. ``uses``: the parts that it cannot do without; a
    value missing elsewhere does not stop it. ``choices``: parts of which it reads no value, but which file was chosen
    counts. ``ignores``: keys of a used part that it does not read after all. ``compares``: values of other parts that
    what it is given must agree with, or that say what it is. ``silent``: values of these that, like null, say nothing.
    ``null_takes``: own parameter -> the key that its null stands for. ``submits``: with +cluster the stage runs
    here and submits jobs itself; otherwise it becomes a job.

    stages: what a preset says to each stage; the chosen stage's section is folded into the config.
    policy_types: what a preset says to each type of policy; that of vendor.policy.type is folded into vendor.policy.
    profile: write profile.txt, where the time went by function, into the run's folder
    """

    uses: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[tuple[str, ...]] = ()
    ignores: ClassVar[tuple[str, ...]] = ()
    compares: ClassVar[tuple[str, ...]] = ()
    silent: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    null_takes: ClassVar[Mapping[str, str]] = {}
    submits: ClassVar[bool] = False
    hands_on: ClassVar[bool] = False
    composed: ClassVar[tuple[Composed, Parts] | None] = None  # what compose() was given, and made of it

    stage: str = MISSING
    embodiment: EmbodimentConfig = MISSING
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
    policy_types: dict[str, Any] = field(default_factory=dict)
    profile: bool = False
    cluster: ClusterConfig | None = None
    sweep: SweepConfig = field(default_factory=SweepConfig)
