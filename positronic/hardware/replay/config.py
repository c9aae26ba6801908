"""hardware=replay: a recorded episode that plays as if it were a robot."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from positronic.hardware.config import HardwareConfig
from positronic.storage.config import StorageConfig
from positronic.utils import fields
from positronic.utils.fields import between, one_of


@dataclass
class ReplayConfig(HardwareConfig):
    """A recorded episode that plays.

    path: the raw dataset
    episode: which one, counted from 0; rollout i plays episode + i
    layout: local is one root, local_all a tree of roots
    gripper_open: what the recording says when the gripper is open: 0 or 1
    aliases: name to offer -> recorded signal, as for the dataset that the policy was trained on
    storage: how to reach a path that is a URI
    """

    path: str = fields.path(MISSING)
    episode: int = between(0, default=0)
    layout: str = one_of("local", "local_all", default="local")
    gripper_open: float = one_of(0.0, 1.0, default=0.0)
    aliases: dict[str, str] = field(default_factory=dict)
    storage: StorageConfig = field(default_factory=StorageConfig)
