"""The system without the command line: what ``import positronic`` offers beside ``compose`` and ``open_raw``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from positronic.bake.reader import BakedDataset
from positronic.codecs.build import Recipe
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.config import check, compose, composed_from, disk_in_a_sentence, read_embodiment, run_typed
from positronic.embodiments.embodiment import Embodiment
from positronic.errors import PositronicError, did_you_mean, listing
from positronic.schemas import fields_of
from positronic.stages.base import Parts
from positronic.storage import StorageConfig, is_remote
from positronic.utils.command_line import command, in_python
from positronic.utils.processes import interruptible, without_main

if TYPE_CHECKING:
    from positronic.bake.one_shard import ShardReport
    from positronic.raw.video_writer import VideoOptions
    from positronic.recording.recorder import Recorder
    from positronic.rollout.policies import LocalPolicy
    from positronic.stages.collect import Collect, Collected
    from positronic.stages.compare import Compare, Compared
    from positronic.stages.convert import Baked, Convert
    from positronic.stages.import_ import Import, Imported
    from positronic.stages.infer import Evaluated, Infer
    from positronic.stages.stats import Measured, Stats
    from positronic.stages.train import Train, Trained


@overload
def run(config: Collect) -> Collected: ...
@overload
def run(config: Import) -> Imported: ...
@overload
def run(config: Convert) -> Baked | ShardReport: ...
@overload
def run(config: Stats) -> Measured: ...
@overload
def run(config: Train) -> Trained: ...
@overload
def run(config: Infer) -> Evaluated | Compared: ...
@overload
def run(config: Compare) -> Compared: ...
@overload
def run(config: Parts) -> Any: ...
def run(config: Parts) -> Any:
    """Run the stage of a config from ``compose``, and return its result: a frozen object with paths, report, metrics.

    The config may have been changed after ``compose``; it is checked again. Progress and tables are printed as on the
    command line. Ctrl-C (the notebook's stop button) raises KeyboardInterrupt, with the same promises: nothing that
    looks finished is left, and training keeps its last step. Raises PositronicError for a mistake that a user can mend,
    and for ``stage=serve``, which takes a process of its own.
    """
    if not isinstance(config, Parts):
        raise PositronicError(
            f"positronic.run takes a config, found {type(config).__name__}. Type "
            'positronic.run(positronic.compose(["stage=convert", ...])).'
        )
    if config.cluster is not None and not config.submits:
        raise PositronicError(
            "+cluster submits the runs of a command of the shell: python run.py +cluster=... Leave it out here."
        )
    check(config)
    _refuse_what_needs_a_process(config)
    composed = composed_from(config)
    with interruptible(), without_main(), disk_in_a_sentence(), in_python(composed):
        return run_typed(config, composed)


def record(
    path: str | Path,
    embodiment: str | Path | Embodiment,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    task: str | None = None,
    signals: Mapping[str, tuple[int, ...]] | None = None,
    video: VideoOptions | None = None,
    frames_held: int = 30,
) -> Recorder:
    """A recorder of episodes into the raw dataset in the folder ``path``, for a collection script of your own.

    ``with record(...) as recorder``, ``with recorder.episode() as episode``, and in the control loop
    ``episode.append({"robot_state.q": q, "grip": grip, "image.wrist": frame}, time_ns=time.monotonic_ns())``, which
    copies and returns; frames are encoded by a process for each camera.

    ``embodiment``: a name of ``conf/embodiment``, a YAML file, or the value: which robot it is. ``cameras``: name, as
    the embodiment has it -> (height, width), both even. ``task``: of all episodes, unless ``episode(task=...)`` says
    another. ``signals``: further ones of your own -> shape of a sample, () or (D,). ``frames_held``: frames of each
    camera that may wait to be encoded; one more is refused.

    Raises PositronicError for a robot that is not known, a camera that it does not have, a size that H.264 cannot hold,
    a path in an object store, and, when recording begins, for a folder that holds recordings of another robot.
    """
    from positronic.recording.recorder import Recorder, restricted
    from positronic.recording.rules import Rules

    if is_remote(path):
        raise PositronicError(
            f"record({str(path)!r}): a control loop cannot wait for a network. Record into a local folder, and copy it."
        )
    robot = embodiment if isinstance(embodiment, Embodiment) else read_embodiment(embodiment)
    robot = restricted(robot, cameras or {})
    rules = Rules(robot, cameras or {}, signals)
    return Recorder(Path(path).expanduser(), robot, rules, task, video, frames_held)


def open_baked(path: str | Path, storage: StorageConfig | None = None) -> BakedDataset:
    """Open a baked dataset of N frames in E episodes, of LeRobot's format v3.0.

    Columns are in memory: ``vectors[column]``, float32 (N, D), in SI units; an episode is the rows ``starts[e]`` to
    ``ends[e]``. Its ``recipe`` says what each number means. ``path`` may be ``s3://<bucket>/<folder>``, reached as
    ``storage`` says: all of it is fetched. Raises PositronicError when there is no such dataset, or it is damaged.
    """
    from positronic.bake.reader import open_baked as open_local
    from positronic.storage.folder import fetch

    return open_local(fetch(path, storage))


def load_policy(
    checkpoints_dir: str | Path,
    checkpoint: str | int | None = None,
    device: str = "auto",
    storage: StorageConfig | None = None,
) -> LocalPolicy:
    """A checkpoint (None: the latest) of the experiment in ``checkpoints_dir``, a folder or a URI, in this process.

    ``policy.infer(observation)`` answers one observation (raw keys: images uint8 RGB (H, W, 3), joints in rad, poses in
    m and unit quaternions, scalar first, gripper 0 = open, ``task``) with the next action steps, timestamps in seconds.
    ``device``: of torch; ``auto`` takes a GPU when there is one. Raises PositronicError when there is no such
    checkpoint, or it is damaged.
    """
    from positronic.rollout.config import LocalPolicyConfig
    from positronic.rollout.policies import LocalPolicy
    from positronic.utils.threads import wait_quietly

    wait_quietly()
    wanted = None if checkpoint is None else str(checkpoint)
    place = str(Path(checkpoints_dir)) if isinstance(checkpoints_dir, Path) else checkpoints_dir
    return LocalPolicy(LocalPolicyConfig("local", place, wanted, device, storage or StorageConfig()))


def codec(
    vendor: str = "lerobot",
    codec: str | None = None,
    embodiment: str | None = None,
    conf_dir: str | Path | None = None,
    **values: Any,
) -> Recipe:
    """What a vendor's policy sees and does: a codec as this vendor uses it, which prints as its contract.

    ``codec``: None takes the vendor's default. ``embodiment``: what the robot is, by its file in conf/embodiment; None
    is that of recordings that do not say, a Franka. ``values``: other values of codec or modality than in the files, by
    name: ``codec("gr00t", "ee_quat", image_size=[96, 96], action_fps=10)``. ``conf_dir``: of your own config files.

    ``recipe.codec.encode(observation)`` gives the canonical features of one observation, float32 (D,) and images uint8
    (H, W, 3); ``recipe.codec.encode_episode(samples)`` those of T sampled times, (T, D); and
    ``recipe.codec.decode(actions)`` turns a chunk (steps, A) into robot commands. Raises PositronicError for a pair
    that there is not, a name that is no value, and a value that breaks its rule.
    """
    from positronic.codecs.build import build
    from positronic.embodiments.embodiment import typed_embodiment

    chosen = [f"vendor={vendor}", *([] if codec is None else [f"codec={codec}"])]
    typed = [_override(name, value) for name, value in values.items()]
    typed += [] if embodiment is None else [f"embodiment={embodiment}"]
    config = compose([f"stage={_stage_for(chosen, conf_dir)}", *chosen, *typed], conf_dir)
    return build(config.codec, config.modality, embodiment=typed_embodiment(config.embodiment))


def _refuse_what_needs_a_process(config: Parts) -> None:
    if config.stage == "serve":
        place = {"checkpoints_dir": config.checkpoints_dir}
        raise PositronicError(
            f"stage=serve takes a process of its own. Type in a shell:\n  {command('serve', place)}\nFor the policy in "
            f"this process: positronic.load_policy({json.dumps(config.checkpoints_dir)})."
        )
    if config.profile:
        raise PositronicError(
            "profile=true writes into the folder of a run of the command line. Here, profile positronic.run(config) "
            "with cProfile, or with %prun in a notebook."
        )


def _stage_for(chosen: list[str], conf_dir: str | Path | None) -> str:
    """A codec that only answers cannot be composed for a stage that bakes."""
    if not any(each.startswith("codec=") for each in chosen):
        return "convert"
    config = compose(["stage=infer", *chosen], conf_dir)
    return "infer" if config.codec.inference_only else "convert"


def _override(name: str, value: Any) -> str:
    for group, schema in (("codec", CodecConfig), ("modality", ModalityConfig)):
        if name in fields_of(schema):
            return f"{group}.{name}={_typed(value)}"
    known = [*fields_of(CodecConfig), *fields_of(ModalityConfig)]
    raise PositronicError(f"codec({name}=...): expected one of {listing(known)}.{did_you_mean(name, known)}")


def _typed(value: Any) -> str:
    """A value as a person types it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_typed(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_typed, value)) + "]"
    return json.dumps(value)
