"""The policy and driver groups: who decides, and how episodes are run."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from positronic.storage.config import StorageConfig
from positronic.utils.fields import above, between, one_of


@dataclass
class PolicyConfig:
    """Base of every policy's config."""

    name: str = MISSING


@dataclass
class RemotePolicyConfig(PolicyConfig):
    """A policy behind the inference API. ``checkpoint``: null takes the server's default. ``connect_timeout_sec``: how
    long to keep trying while the server starts."""

    host: str = "127.0.0.1"
    port: int = between(1, 65535, default=8000)
    checkpoint: str | None = None
    token: str | None = None
    connect_timeout_sec: float = above(0, default=120.0)


@dataclass
class LocalPolicyConfig(PolicyConfig):
    """A checkpoint loaded in this process. ``checkpoints_dir``: an experiment's folder, or its URI, which is reached as
    ``storage`` says."""

    checkpoints_dir: str = MISSING
    checkpoint: str | None = None
    device: str = "auto"
    storage: StorageConfig = field(default_factory=StorageConfig)


@dataclass
class ScriptedPolicyConfig(PolicyConfig):
    """The expert that knows where the cubes are; simulation only."""


@dataclass
class DriverConfig:
    """Starts and stops episodes: ``num_episodes`` of them, ``simulation_time`` s at most for each.

    ``save_videos``: of how many a video is rendered, successes and failures in turn. ``num_workers``: episodes run side
    by side, each in its own process. ``simulate_latency``: the robot's clock runs on while the policy thinks.
    ``max_staleness_sec``: how old a signal may be that a policy is asked about, by its stamp or by a picture that stays
    while the arm moves; null allows any age. ``on_stale``: ``abort`` ends the run with an error, ``stop`` the episode.
    ``action_fps``: control rate in Hz where the policy does not say it. ``task``: the instruction, null takes the
    robot's own.
    """

    name: str = MISSING
    num_episodes: int = between(1, default=1)
    simulation_time: float = above(0, default=20.0)
    stop_on_success: bool = True
    show_gui: bool = False
    save_videos: int = between(0, default=1)
    num_workers: int = between(1, default=1)
    simulate_latency: bool = False
    max_staleness_sec: float | None = above(0, default=1.0)
    on_stale: str = one_of("abort", "stop", default="abort")
    action_fps: float = above(0, default=15.0)
    task: str | None = None
