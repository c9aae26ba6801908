"""The policy and driver groups: who decides, and how episodes are run."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class PolicyConfig:
    """Base of every policy's config."""

    name: str = MISSING


@dataclass
class RemotePolicyConfig(PolicyConfig):
    """A policy behind the inference API. ``checkpoint``: null takes the server's default. ``connect_timeout_sec``: how
    long to keep trying while the server starts."""

    host: str = "127.0.0.1"
    port: int = 8000
    checkpoint: str | None = None
    token: str | None = None
    connect_timeout_sec: float = 120.0


@dataclass
class LocalPolicyConfig(PolicyConfig):
    """A checkpoint loaded in this process. ``checkpoints_dir``: an experiment's folder."""

    checkpoints_dir: str = MISSING
    checkpoint: str | None = None
    device: str = "auto"


@dataclass
class ScriptedPolicyConfig(PolicyConfig):
    """The expert that knows where the cubes are; simulation only."""


@dataclass
class DriverConfig:
    """Starts and stops episodes. ``num_episodes`` seeds from ``seed`` on; ``simulation_time`` s at most for each;
    ``save_videos``: of how many episodes a video is rendered; ``num_workers``: episodes run side by side."""

    name: str = MISSING
    num_episodes: int = 1
    simulation_time: float = 20.0
    stop_on_success: bool = True
    show_gui: bool = False
    save_videos: int = 1
    num_workers: int = 1
    task: str | None = None
