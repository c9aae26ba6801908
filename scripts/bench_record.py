"""How long a control loop waits for its recorder: four cameras of 640 x 480 at 30 Hz, six joints and a gripper.

    python scripts/bench_record.py                 # 20 s of robot time for each contender
    python scripts/bench_record.py --seconds 60 --cameras 2

Every contender gets the same frames, freshly written into the same buffers as a camera's driver does, in a loop that is
held at its rate; what is timed is the call that records a step. ``naive`` encodes in the loop, with our own settings;
``lerobot_images`` is LeRobot's ``add_frame`` with four threads a camera that write pictures, which are encoded when an
episode is saved; ``lerobot_streaming`` is the same with encoders that run meanwhile. A step is late when it began more
than a millisecond after its time. ``save`` is how long saving the episode takes, after the loop. On a machine that is
busy with other things they take the loop's core in the middle of a call: look at the CPU milliseconds, too, or give the
loop priority (``chrt -f 10 python ...``). The last line is JSON: our 99th percentile in ms, and how many times that of
the others is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.silence import without_stderr
from PIL import Image
from rich.console import Console
from rich.table import Table

from positronic import keys
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.raw.timeline import NS_PER_SEC

OURS = "positronic"
SIZE = (480, 640)
JOINTS = tuple(f"joint_{number}" for number in range(6))
VARIANTS = 8  # of a camera's frames
LATE_SEC = 0.001
THREADS_PER_CAMERA = 4  # LeRobot's own advice
COARSE = 16  # pixels of a patch, so that pictures are neither noise nor grey

Step = Mapping[str, Any]  # raw key -> value
Record = Callable[[Step, int], None]


@dataclass(frozen=True)
class Load:
    """What is recorded."""

    cameras: tuple[str, ...]
    fps: int
    steps: int


@dataclass(frozen=True)
class Turn:
    """What was measured of a contender.

    ``calls``, ``cpu``: seconds of each step's call, by the clock and of the loop's thread. ``late``: steps that began
    late.
    """

    name: str
    calls: np.ndarray
    cpu: np.ndarray
    late: int
    save_sec: float

    @property
    def p99_ms(self) -> float:
        """Of the calls, by the clock."""
        return percentile_ms(self.calls, 99)


def percentile_ms(seconds: np.ndarray, percentile: float) -> float:
    """Milliseconds."""
    return float(np.percentile(seconds, percentile) * 1000)


def main() -> None:
    options = parse()
    logging.disable(logging.WARNING)
    cameras = tuple(f"camera_{number}" for number in range(options.cameras))
    load = Load(cameras, options.fps, round(options.seconds * options.fps))
    turns = []
    with tempfile.TemporaryDirectory(prefix="bench_record_") as scratch:
        for name, contender in contenders(options.lerobot).items():
            with without_stderr(), contextlib.redirect_stdout(io.StringIO()):
                turns.append(measure(name, contender(Path(scratch) / name, load), load))
    Console(width=100).print(table_of(turns, load))
    best = turns[0].p99_ms
    print(json.dumps({"p99_ms": round(best, 3)} | {f"vs_{t.name}": round(t.p99_ms / best, 2) for t in turns[1:]}))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of robot time")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--lerobot", action=argparse.BooleanOptionalAction, default=True, help="LeRobot's writer too")
    return parser.parse_args()


def contenders(with_lerobot: bool) -> dict[str, Callable[[Path, Load], AbstractContextManager[Record]]]:
    """Each is a context manager that yields what records a step; leaving it saves the episode."""
    found = {OURS: ours, "naive": naive}
    if with_lerobot:
        found |= {"lerobot_images": lerobot_images, "lerobot_streaming": lerobot_streaming}
    return found


@contextmanager
def ours(root: Path, load: Load) -> Iterator[Record]:
    """positronic.record."""
    import positronic

    cameras = dict.fromkeys(load.cameras, SIZE)
    arm = Arm("", JOINTS, ee_frame=None)
    robot = Embodiment("bench", (arm,), {name: name for name in load.cameras})
    with positronic.record(root, robot, cameras, task="bench") as recorder, recorder.episode() as episode:
        yield lambda step, time_ns: episode.append(step, time_ns=time_ns)


@contextmanager
def naive(root: Path, load: Load) -> Iterator[Record]:
    """The same files, encoded in the loop."""
    from positronic.raw.writer import DatasetWriter

    with DatasetWriter(root).new_episode() as episode:

        def record(step: Step, time_ns: int) -> None:
            for name, value in step.items():
                episode.append(name, value, time_ns)

        yield record


def lerobot_images(root: Path, load: Load) -> AbstractContextManager[Record]:
    """LeRobot's AsyncImageWriter."""
    return lerobot(root, load, {"image_writer_threads": THREADS_PER_CAMERA * len(load.cameras)})


def lerobot_streaming(root: Path, load: Load) -> AbstractContextManager[Record]:
    """LeRobot's encoders that run while it records."""
    return lerobot(root, load, {"streaming_encoding": True})


@contextmanager
def lerobot(root: Path, load: Load, options: Mapping[str, Any]) -> Iterator[Record]:
    """LeRobot's recording interface."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (len(JOINTS) + 1,), "names": None}
    image = {"dtype": "video", "shape": (*SIZE, 3), "names": ["height", "width", "channels"]}
    columns = {keys.IMAGE_PREFIX + name: f"observation.images.{name}" for name in load.cameras}
    features = {"observation.state": vector, "action": vector} | dict.fromkeys(columns.values(), image)
    target = LeRobotDataset.create("local/bench", fps=load.fps, features=features, root=root, **options)

    def record(step: Step, time_ns: int) -> None:
        state = np.append(step[keys.JOINT_POSITION], step[keys.GRIP]).astype(np.float32)
        action = np.append(step[keys.COMMAND_JOINTS], step[keys.TARGET_GRIP]).astype(np.float32)
        images = {column: step[name] for name, column in columns.items()}
        target.add_frame({"observation.state": state, "action": action, "task": "bench"} | images)

    yield record
    target.save_episode()
    target.finalize()


def measure(name: str, contender: AbstractContextManager[Record], load: Load) -> Turn:
    """One episode of one contender."""
    frames = {camera: pictures(number) for number, camera in enumerate(load.cameras)}
    buffers = {keys.IMAGE_PREFIX + camera: np.empty((*SIZE, 3), np.uint8) for camera in load.cameras}
    calls, cpu, late = [], [], 0
    with contender as record:
        begin = time.monotonic_ns()
        for number in range(load.steps):
            due = begin + number * NS_PER_SEC // load.fps
            time.sleep(max(0, due - time.monotonic_ns()) / NS_PER_SEC)
            late += time.monotonic_ns() - due > LATE_SEC * NS_PER_SEC
            for camera, variants in frames.items():
                np.copyto(buffers[keys.IMAGE_PREFIX + camera], variants[number % VARIANTS])
            step = numbers(number) | buffers
            started, started_cpu = time.perf_counter(), time.thread_time()
            record(step, due)
            cpu.append(time.thread_time() - started_cpu)
            calls.append(time.perf_counter() - started)
        ended = time.perf_counter()
    return Turn(name, np.array(calls), np.array(cpu), late, time.perf_counter() - ended)


def numbers(number: int) -> dict[str, Any]:
    """Joints and a gripper, measured and commanded."""
    angles = np.sin(np.arange(len(JOINTS)) + number / 30)
    grip = (number % 90) / 90
    return {
        keys.JOINT_POSITION: angles,
        keys.COMMAND_JOINTS: angles + 0.01,
        keys.GRIP: grip,
        keys.TARGET_GRIP: grip,
    }


def pictures(seed: int) -> list[np.ndarray]:
    """Smooth patches that move."""
    coarse = np.random.default_rng(seed).integers(0, 256, (SIZE[0] // COARSE, SIZE[1] // COARSE, 3), dtype=np.uint8)
    whole = np.asarray(Image.fromarray(coarse).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC))
    return [np.roll(whole, 2 * shift, axis=1) for shift in range(VARIANTS)]


def table_of(turns: list[Turn], load: Load) -> Table:
    """A row for each contender."""
    title = f"{len(load.cameras)} cameras of {SIZE[1]} x {SIZE[0]} at {load.fps} Hz, {load.steps} steps"
    table = Table(title=title)
    for heading in ("", "p50 ms", "p99 ms", "max ms", "CPU p50 ms", "CPU p99 ms", "late steps", "save s"):
        table.add_column(heading, justify="right" if heading else "left")
    for turn in turns:
        figures = [f"{percentile_ms(turn.calls, p):.3f}" for p in (50, 99, 100)]
        figures += [f"{percentile_ms(turn.cpu, p):.3f}" for p in (50, 99)]
        table.add_row(turn.name, *figures, str(turn.late), f"{turn.save_sec:.1f}")
    return table


if __name__ == "__main__":
    main()
