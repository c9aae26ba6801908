"""How long a control loop waits for its recorder: four cameras of 640 x 480 at 30 Hz, six joints and a gripper.

    python scripts/bench_record.py                 # 20 s of robot time for each contender
    python scripts/bench_record.py --seconds 60 --cameras 2

Every contender gets the same frames, freshly written into the same buffers as a camera's driver does, in a loop that is
held at its rate; what is timed is the call that records a step. ``in_place`` is positronic with frames that the driver
writes into ``episode.frame_buffer``, which are not copied. ``copies`` is no recorder, but a copy of the step's frames
with numpy: the least for whoever copies them on this machine. ``naive`` encodes in the loop, with our own settings;
``lerobot_images`` is LeRobot's ``add_frame`` with four threads a camera that write pictures, which are encoded when an
episode is saved; ``lerobot_streaming`` is the same with encoders that run meanwhile. A step is late when it began more
than a millisecond after its time. ``save`` is how long saving the episode takes, after the loop. On a machine that is
busy with other things they take the loop's core in the middle of a call: look at the CPU milliseconds, too. The last
line is JSON: the 99th percentiles in ms.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
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
from positronic.recording.recorder import FRAMES_HELD

OURS = "positronic"
SIZE = (480, 640)
JOINTS = tuple(f"joint_{number}" for number in range(6))
VARIANTS = 8  # of a camera's frames
LATE_SEC = 0.001
THREADS_PER_CAMERA = 4  # LeRobot's own advice
COARSE = 16  # pixels of a patch, so that pictures are neither noise nor grey

Step = Mapping[str, Any]  # raw key -> value
Record = Callable[[Step, int], None]
Buffer = Callable[[str], np.ndarray]  # of a camera's raw key: what its driver writes the next frame into


@dataclass(frozen=True)
class Load:
    """What is recorded."""

    cameras: tuple[str, ...]
    fps: int
    steps: int


@dataclass(frozen=True)
class Recording:
    """What a contender offers a loop. ``buffer`` is None where the driver has its own."""

    record: Record
    buffer: Buffer | None = None


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
    print(json.dumps({f"{turn.name}_p99_ms": round(turn.p99_ms, 3) for turn in turns}))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of robot time")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--lerobot", action=argparse.BooleanOptionalAction, default=True, help="LeRobot's writer too")
    return parser.parse_args()


def contenders(with_lerobot: bool) -> dict[str, Callable[[Path, Load], AbstractContextManager[Recording]]]:
    """Each is a context manager that yields what records a step; leaving it saves the episode."""
    found = {OURS: ours, "in_place": in_place, "copies": copies, "naive": naive}
    if with_lerobot:
        found |= {"lerobot_images": lerobot_images, "lerobot_streaming": lerobot_streaming}
    return found


@contextmanager
def ours(root: Path, load: Load) -> Iterator[Recording]:
    """positronic.record."""
    with episode_of(root, load) as episode:
        yield Recording(lambda step, time_ns: episode.append(step, time_ns=time_ns))


@contextmanager
def in_place(root: Path, load: Load) -> Iterator[Recording]:
    """positronic.record, with frames that are written where they are encoded."""
    with episode_of(root, load) as episode:
        yield Recording(lambda step, time_ns: episode.append(step, time_ns=time_ns), episode.frame_buffer)


@contextmanager
def episode_of(root: Path, load: Load) -> Iterator[Any]:
    """An episode that is being recorded."""
    import positronic

    cameras = dict.fromkeys(load.cameras, SIZE)
    arm = Arm("", JOINTS, ee_frame=None)
    robot = Embodiment("bench", (arm,), {name: name for name in load.cameras})
    with positronic.record(root, robot, cameras, task="bench") as recorder, recorder.episode() as episode:
        yield episode


@contextmanager
def copies(root: Path, load: Load) -> Iterator[Recording]:
    """Nothing but a copy of each frame, into memory as large as ours, which the system has given."""
    held = {keys.IMAGE_PREFIX + name: np.ones((FRAMES_HELD, *SIZE, 3), np.uint8) for name in load.cameras}
    numbers = itertools.cycle(range(FRAMES_HELD))

    def record(step: Step, time_ns: int) -> None:
        slot = next(numbers)
        for name, frames in held.items():
            np.copyto(frames[slot], step[name])

    yield Recording(record)


@contextmanager
def naive(root: Path, load: Load) -> Iterator[Recording]:
    """The same files, encoded in the loop."""
    from positronic.raw.writer import DatasetWriter

    with DatasetWriter(root).new_episode() as episode:

        def record(step: Step, time_ns: int) -> None:
            for name, value in step.items():
                episode.append(name, value, time_ns)

        yield Recording(record)


def lerobot_images(root: Path, load: Load) -> AbstractContextManager[Recording]:
    """LeRobot's AsyncImageWriter."""
    return lerobot(root, load, {"image_writer_threads": THREADS_PER_CAMERA * len(load.cameras)})


def lerobot_streaming(root: Path, load: Load) -> AbstractContextManager[Recording]:
    """LeRobot's encoders that run while it records."""
    return lerobot(root, load, {"streaming_encoding": True})


@contextmanager
def lerobot(root: Path, load: Load, options: Mapping[str, Any]) -> Iterator[Recording]:
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

    yield Recording(record)
    target.save_episode()
    target.finalize()


def measure(name: str, contender: AbstractContextManager[Recording], load: Load) -> Turn:
    """One episode of one contender."""
    frames = {keys.IMAGE_PREFIX + camera: pictures(number) for number, camera in enumerate(load.cameras)}
    own = {camera: np.empty((*SIZE, 3), np.uint8) for camera in frames}
    spent, late = [], 0
    with contender as recording:
        buffer = recording.buffer or own.__getitem__
        begin = time.monotonic_ns()
        for number in range(load.steps):
            due = begin + number * NS_PER_SEC // load.fps
            time.sleep(max(0, due - time.monotonic_ns()) / NS_PER_SEC)
            late += time.monotonic_ns() - due > LATE_SEC * NS_PER_SEC
            buffers, asked = timed(lambda: {camera: buffer(camera) for camera in frames})
            for camera, variants in frames.items():
                np.copyto(buffers[camera], variants[number % VARIANTS])
            step = numbers(number) | buffers
            _, recorded = timed(lambda step=step, due=due: recording.record(step, due))
            spent.append(asked + recorded)
        ended = time.perf_counter()
    return Turn(name, *np.array(spent).T, late, time.perf_counter() - ended)


def timed(call: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """What it returns, and its seconds by the clock and of this thread. The clock is asked last and first, as the other
    question is a call of the system, in which the kernel lets other processes go first."""
    cpu, started = time.thread_time(), time.perf_counter()
    found = call()
    seconds = time.perf_counter() - started
    return found, np.array([seconds, time.thread_time() - cpu])


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
