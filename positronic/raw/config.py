"""The dataset group: which raw recordings, and what was particular about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from positronic import keys
from positronic.storage.config import StorageConfig
from positronic.utils import fields
from positronic.utils.fields import between, items, one_of, some


@dataclass
class DatasetConfig:
    """Where raw episodes are and what to mend while reading, so that nothing above the reader knows.

    name: the dataset's name, in the default paths
    path: folder of raw episodes, or its URI
    layout: local is one root, local_all a tree of roots; lerobot is a LeRobot dataset, which stage=train takes as it is
    gripper_open: what the recording says when the gripper is open: 0 or 1; 1 flips grip and target_grip
    aliases: name to offer -> recorded signal
    episodes: bake only these, by the numbers of their folders: [0,3,7]; null is all
    outcome: bake only episodes that ended so: success, failure, or what eval.outcome says; null is any
    tasks: bake only episodes with one of these recorded tasks; null is any
    max_episodes: bake the first so many of those chosen; null is all
    mapping: of a LeRobot dataset: YAML file that says what each column is; null takes what the experiment has saved,
        else proposes it
    agree: take what the proposal believes of each open convention, without being asked
    storage: how to reach a path that is a URI
    """

    name: str = fields.name(MISSING)
    path: str = fields.path(MISSING)
    layout: str = one_of("local", "local_all", keys.LAYOUT_LEROBOT, default="local")
    gripper_open: float = one_of(0.0, 1.0, default=0.0)
    aliases: dict[str, str] = field(default_factory=dict)
    episodes: list[int] | None = field(default=None, metadata=items(0))
    outcome: str | None = some(None, "how an episode ended: success, failure, ...")
    tasks: list[str] | None = field(default=None, metadata=items())
    max_episodes: int | None = between(1, default=None)
    mapping: str | None = fields.path(None, layout=keys.LAYOUT_LEROBOT)
    agree: bool = one_of(True, False, default=False, layout=keys.LAYOUT_LEROBOT)
    storage: StorageConfig = field(default_factory=StorageConfig)
