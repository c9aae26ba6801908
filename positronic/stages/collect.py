"""stage=collect: scripted demonstrations in simulation, recorded as a raw dataset."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from positronic.errors import PositronicError
from positronic.stages.base import Parts
from positronic.utils.command_line import RESUME, again, command
from positronic.utils.fields import between, path

if TYPE_CHECKING:
    from positronic.rollout.collection import Collection
    from positronic.rollout.demonstration import Demonstration


@dataclass
class Collect(Parts):
    """Scripted demonstrations.

    output_dir: folder of the raw dataset to write
    num_episodes: how many successful demonstrations
    seed: of the first scene; the next ones have seed + 1, seed + 2, ...
    noise: 1 disturbs the executed commands as in DART, 0 not at all
    recovery: share of episodes that begin after a failed grasp
    num_workers: processes; 0 is one per core
    resume: go on where an interrupted run stopped
    """

    uses: ClassVar[tuple[str, ...]] = ("hardware", "storage")
    ignores: ClassVar[tuple[str, ...]] = ("hardware.scene.view",)  # the camera of the videos of stage=infer

    output_dir: str = path("${dataset.path}")
    num_episodes: int = between(1, default=50)
    seed: int = between(0, default=100000)
    noise: float = between(0, default=1.0)
    recovery: float = between(0, 1, default=0.2)
    num_workers: int = between(0, default=0)
    resume: bool = False


@dataclass(frozen=True)
class Collected:
    """The result of stage=collect. ``path``: of the raw dataset, a folder or a URI.

    ``episodes``: how many it holds. ``recorded``, ``failed``: demonstrations of this run that were kept, and that were
    not; ``frames``: of those that were kept, at the robot's control rate. ``seconds``: how long it took.
    """

    path: str
    episodes: int
    recorded: int
    failed: int
    frames: int
    seconds: float


def run(config: Collect) -> Collected:
    """Record ``num_episodes`` demonstrations and say where they are.

    Raises PositronicError when the hardware is not the simulator, ``output_dir`` holds episodes already, or those that
    are to be continued were collected with other parameters.
    """
    from positronic.hardware.sim.config import SimConfig

    if not isinstance(config.hardware, SimConfig):
        raise PositronicError(
            f"stage=collect needs the simulator, where the expert knows where everything is; found hardware="
            f"{config.hardware.name}. Add hardware=sim."
        )
    from positronic.raw.upload import RECORDING
    from positronic.storage.outgoing import synced_output

    begin = time.monotonic()
    done: list[Demonstration] = []
    there = kept = left = 0  # Ctrl-C may come before the folder is looked at
    hint = f"To continue it, type:\n  {again(RESUME)}"
    try:
        with synced_output(config.output_dir, RECORDING, config.storage, config.resume, hint) as root:
            collection = _collection(config, root)
            there = kept = len(collection.succeeded)
            try:
                _record(config, collection, done)
            finally:
                kept, left = len(collection.succeeded), collection.close()
    except KeyboardInterrupt:
        print(_interrupted(kept, left, config.output_dir))
        raise
    seconds, good = time.monotonic() - begin, [each for each in done if each.success]
    print(summary(done, config.hardware.control_fps, config.output_dir, seconds, there))
    frames = sum(each.frames for each in good)
    return Collected(config.output_dir, kept, len(good), len(done) - len(good), frames, seconds)


def _collection(config: Collect, root: Path) -> Collection:
    """The folder, ready to be recorded into. Raises PositronicError if it must not be."""
    from positronic.raw.layout import require_empty
    from positronic.rollout.collection import Collection

    asked = {name: getattr(config, name) for name in ("seed", "noise", "recovery")}
    collection = Collection(root, asked | {"hardware": asdict(config.hardware)}, config.num_episodes, config.seed)
    if config.resume:
        collection.go_on()
    else:
        require_empty(root, advice=f"To continue an interrupted run, type:\n  {again(RESUME)}\n")
        collection.begin()
    return collection


def summary(done: list[Demonstration], fps: int, root: str | Path, wall_sec: float, there: int = 0) -> str:
    """What was recorded, how long it took, and what to type next. ``there``: how many were there before."""
    kept = [demonstration for demonstration in done if demonstration.success]
    frames = sum(demonstration.frames for demonstration in kept)
    failed = len(done) - len(kept)
    lines = [
        f"{len(kept)} demonstrations, {frames} frames, {frames / fps:.0f} s of robot time, in {wall_sec:.1f} s",
        *([f"{there} demonstrations were there before"] if there else []),
        *([f"{failed} more failed and were not kept"] if failed else []),
        f"  dataset: {root}",
        f"  next:    {command('convert', {'dataset': 'local', 'dataset.path': str(root)})}",
    ]
    return "\n".join(lines)


def _interrupted(kept: int, left: int, place: str) -> str:
    """``left``: how many episodes are there, with half ones that could not be removed."""
    if not left:
        return f"No episode was finished; nothing is in {place}. The same command starts again."
    return f"{kept} finished episodes are in {place}. To continue, type:\n  {again(RESUME)}"


def _record(config: Collect, collection: Collection, done: list[Demonstration]) -> None:
    from rich.progress import Progress

    from positronic.rollout.demonstration import Lesson, demonstrate

    lesson, there = Lesson(config.noise, config.recovery), collection.done
    demonstrations = demonstrate(
        config.hardware, collection.root, lesson, config.seed, config.num_episodes, config.num_workers, there
    )
    with Progress() as progress, closing(demonstrations):
        bar = progress.add_task("Demonstrating", total=config.num_episodes, completed=sum(there.values()))
        for demonstration in demonstrations:
            done.append(demonstration)
            progress.advance(bar, demonstration.success)
            if not demonstration.success:
                collection.note_failure(demonstration.seed)
