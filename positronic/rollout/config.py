"""The policy and driver groups: who decides, and how episodes are run."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from positronic.storage.config import StorageConfig
from positronic.utils import fields
from positronic.utils.fields import above, between, name, one_of, path, some

PLAY_OUT, ASK_AHEAD, TEMPORAL_ENSEMBLE, REAL_TIME = "play_out", "ask_ahead", "temporal_ensemble", "real_time"
REFUSE, STOP, CLAMP = "refuse", "stop", "clamp"  # of driver.on_unsafe_chunk; stop of driver.on_stale, too
NO_REAL_TIME = (
    f"driver.playback={REAL_TIME} needs a policy that continues the steps which are still being played when it answers "
    "(real-time chunking). LeRobot's pi05 and SmolVLA could, but no server of this protocol takes these steps, and no "
    f"policy is served with them. Type driver.playback={ASK_AHEAD}."
)
DECIDED = "decided"  # of driver.stop_when


@dataclass
class PolicyConfig:
    """Base of every policy's config.

    name: of the policy's file
    """

    name: str = MISSING


@dataclass
class RemotePolicyConfig(PolicyConfig):
    """A policy behind the inference API.

    host: name or address of the server
    port: of the server
    checkpoint: id of a checkpoint; null takes the server's default
    token: that the server asks for; null is none
    connect_timeout_sec: how long to keep trying while the server starts, restarts or is full, in s
    reconnect_sec: how long a server is waited for that goes away in the middle of an episode, in s; 0: not at all
    jpeg_quality: pictures are sent as JPEG of this quality, 1 to 100; null: as they are
    tls: encrypt what is sent; the server needs server.tls_cert
    tls_ca: file with the certificate that the server shows, or of its authority; null trusts whom this machine trusts
    """

    host: str = fields.host("127.0.0.1")
    port: int = between(1, 65535, default=8000)
    checkpoint: str | None = name(None, "a checkpoint's id")
    token: str | None = some(None, "a token that is not empty, or null for none")
    connect_timeout_sec: float = above(0, default=120.0)
    reconnect_sec: float = between(0, default=60.0)
    jpeg_quality: int | None = between(1, 100, default=None)
    tls: bool = False
    tls_ca: str | None = path(None, tls=True)


@dataclass
class LocalPolicyConfig(PolicyConfig):
    """A checkpoint loaded in this process.

    checkpoints_dir: an experiment's folder, the one that holds checkpoints/, or a folder of experiments
    checkpoint: id of a checkpoint, or <experiment>/<id>; null takes the latest
    device: of torch; auto takes a GPU when there is one
    storage: how to reach a checkpoints_dir that is a URI
    """

    checkpoints_dir: str = path(MISSING)
    checkpoint: str | None = name(None, "a checkpoint's id")
    device: str = fields.device("auto")
    storage: StorageConfig = field(default_factory=StorageConfig)


@dataclass
class ScriptedPolicyConfig(PolicyConfig):
    """The expert that knows where everything is; simulation only."""


@dataclass
class DriverConfig:
    """Starts and stops episodes.

    name: of the driver's file
    num_episodes: how many
    simulation_time: of one episode at most, in s
    stop_on_success: end an episode as soon as it has succeeded
    show_gui: watch it in a window
    save_videos: of how many episodes a video is rendered, successes and failures in turn
    num_robots: how many robots play at the same time, each an episode in a process of its own
    simulate_latency: the robot's clock runs on while the policy thinks
    latency_sec: how long it thinks by the robot's clock, in s; null: as long as it really does
    playback: play_out each chunk and then ask for the next; ask_ahead of a chunk's end; temporal_ensemble: ask at every
        step, and average what chunks say of one moment; real_time continues a chunk that is being played
    ask_ahead_steps: how many steps are still to be played when the policy is asked
    ensemble_decay: weights are exp(-decay i), the oldest chunk's first; 0 weighs all the same
    max_staleness_sec: how old a signal may be that a policy is asked about, or a picture that stays; null: any age
    on_stale: abort ends the run with an error, stop the episode
    on_unsafe_chunk: refuse ends the run with an error, stop the episode, which has failed; clamp keeps to the limits
    max_jump: from where the tool is measured to a chunk's first step, in m; null: any, as for the limits below
    max_turn_jump: from how the tool is turned to a chunk's first step, in rad
    max_joint_jump: from where a joint is measured to a chunk's first step, in rad
    max_speed: of the tool between steps, in m/s
    max_turn_speed: of the tool's rotation between steps, in rad/s
    max_joint_speed: of a joint between steps, in rad/s; null: 1.5 times what the embodiment states, or 2 pi
    max_acceleration: of the tool between steps, in m/s²
    max_turn_acceleration: of the tool's rotation between steps, in rad/s²
    max_joint_acceleration: of a joint between steps, in rad/s²
    action_fps: control rate in Hz where the policy does not say it
    task: the instruction; null takes the robot's own, which hardware=sim_told words anew for each episode
    stop_when: all episodes are played, or decided: it is clear which of the policies is better
    """

    name: str = MISSING
    num_episodes: int = between(1, default=1)
    simulation_time: float = above(0, default=20.0)
    stop_on_success: bool = True
    show_gui: bool = False
    save_videos: int = between(0, default=1)
    num_robots: int = between(1, 256, default=1, show_gui=False)
    simulate_latency: bool = False
    latency_sec: float | None = between(0, default=None, simulate_latency=True)
    playback: str = one_of(PLAY_OUT, ASK_AHEAD, TEMPORAL_ENSEMBLE, REAL_TIME, default=PLAY_OUT)
    ask_ahead_steps: int = between(1, default=4, playback=ASK_AHEAD)
    ensemble_decay: float = between(0, default=0.01, playback=TEMPORAL_ENSEMBLE)
    max_staleness_sec: float | None = above(0, default=1.0)
    on_stale: str = one_of("abort", STOP, default="abort")
    on_unsafe_chunk: str = one_of(REFUSE, STOP, CLAMP, default=REFUSE)
    max_jump: float | None = above(0, default=0.3)
    max_turn_jump: float | None = above(0, default=0.8)
    max_joint_jump: float | None = above(0, default=0.8)
    max_speed: float | None = above(0, default=2.5)
    max_turn_speed: float | None = above(0, default=4.0)
    max_joint_speed: float | None = above(0, default=None)
    max_acceleration: float | None = above(0, default=40.0)
    max_turn_acceleration: float | None = above(0, default=100.0)
    max_joint_acceleration: float | None = above(0, default=100.0)
    action_fps: float = above(0, default=15.0)
    task: str | None = None
    stop_when: str = one_of("all", DECIDED, default="all")
