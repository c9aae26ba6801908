"""stage=collect: scripted demonstrations in simulation, recorded as a raw dataset."""

from __future__ import annotations

import shlex
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from positronic.errors import PositronicError
from positronic.stages.base import Parts
from positronic.utils.command_line import RUN
from positronic.utils.fields import between

if TYPE_CHECKING:
    from positronic.rollout.demonstration import Demonstration


@dataclass
class Collect(Parts):
    """``output_dir``: the raw dataset to write, by default ``dataset.path``. ``num_episodes`` successful demonstrations
    from seeds ``seed``, ``seed + 1``, ...; ``noise``: 1 disturbs the executed command as in DART, 0 not at all;
    ``recovery``: share of episodes that start after a failed grasp; ``num_workers``: processes, 0 means one per core.
    """

    uses: ClassVar[tuple[str, ...]] = ("hardware", "storage")

    output_dir: str = "${dataset.path}"
    num_episodes: int = between(1, default=50)
    seed: int = between(0, default=100000)
    noise: float = between(0, default=1.0)
    recovery: float = between(0, 1, default=0.2)
    num_workers: int = between(0, default=0)


def run(config: Collect) -> None:
    """Record ``num_episodes`` demonstrations and say where they are.

    Raises PositronicError when the hardware is not the simulator or ``output_dir`` holds episodes already.
    """
    from positronic.hardware.sim.config import SimConfig

    if not isinstance(config.hardware, SimConfig):
        raise PositronicError(
            f"stage=collect needs the simulator, where the expert knows where the cubes are; found hardware="
            f"{config.hardware.name}. Add hardware=sim."
        )
    from positronic.raw.upload import RECORDING
    from positronic.storage.outgoing import synced_output

    begin = time.monotonic()
    done: list[Demonstration] = []
    try:
        with synced_output(config.output_dir, RECORDING, config.storage) as root:
            require_empty(root)
            _record(config, root, done)
    except KeyboardInterrupt:
        print(_interrupted(sum(demonstration.success for demonstration in done), config.output_dir))
        raise
    print(summary(done, config.hardware.control_fps, config.output_dir, time.monotonic() - begin))


def require_empty(root: Path) -> None:
    """Raise PositronicError when there are episodes at ``root`` already."""
    from positronic.raw.layout import episode_paths

    found = len(list(episode_paths(root)))
    if found:
        raise PositronicError(
            f"{root} holds {found} episodes already, and demonstrations are not mixed into them."
            f" Record elsewhere, e.g. output_dir={root}_2, or make room: rm -r {root}"
        )


def summary(done: list[Demonstration], fps: int, root: str | Path, wall_sec: float) -> str:
    """What was recorded, how long it took, and what to type next."""
    kept = [demonstration for demonstration in done if demonstration.success]
    frames = sum(demonstration.frames for demonstration in kept)
    failed = len(done) - len(kept)
    lines = [
        f"{len(kept)} demonstrations, {frames} frames, {frames / fps:.0f} s of robot time, in {wall_sec:.1f} s",
        *([f"{failed} more failed and were not kept"] if failed else []),
        f"  dataset: {root}",
        f"  next:    {RUN} stage=convert dataset=local {shlex.quote(f'dataset.path={root}')}",
    ]
    return "\n".join(lines)


def _interrupted(kept: int, place: str) -> str:
    if not kept:
        return f"No episode was finished; nothing is in {place}. The same command starts again."
    return f"{kept} finished episodes are in {place}. To start again, remove them: rm -r {shlex.quote(str(place))}"


def _record(config: Collect, root: Path, done: list[Demonstration]) -> None:
    from rich.progress import Progress

    from positronic.rollout.demonstration import Lesson, demonstrate

    lesson = Lesson(config.noise, config.recovery)
    demonstrations = demonstrate(config.hardware, root, lesson, config.seed, config.num_episodes, config.num_workers)
    with Progress() as progress, closing(demonstrations):
        bar = progress.add_task("Demonstrating", total=config.num_episodes)
        for demonstration in demonstrations:
            done.append(demonstration)
            progress.advance(bar, demonstration.success)
