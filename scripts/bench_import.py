"""How fast recordings are imported: MB of the source a second, against a plain loop over the reading library.

    python scripts/bench_import.py                            # 4 episodes of 10 s, three cameras of 320x240
    python scripts/bench_import.py --episodes 8 --size 640x480

Each contender gets the same files and writes the same raw format, and has ``--rounds`` turns, one after the other, so
that a busy machine hurts all alike; medians count. The plain loop is one process that reads a file with the library of
its format (h5py, rosbags, PyAV) and appends every sample to a writer: what one would write in a collection script. Ours
is ``record_all`` with as many processes as there are cores, the start of the processes included. The last line is JSON:
``<case>_mb_s`` and ``<case>_vs_loop``, how many times faster than the loop.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from positronic import keys
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.importing.mapping import ImportMapping, SignalMapping
from positronic.importing.recording import Plan, Refused
from positronic.importing.run import record_all
from positronic.importing.source import Source
from positronic.importing.sources import open_source
from positronic.raw.writer import DatasetWriter
from positronic.utils.threads import available_cores

CAMERAS = ("high", "left", "right")
JOINTS = tuple(f"joint{number}" for number in range(1, 7))
ROBOT = Embodiment("bench", (Arm("", JOINTS),), {name: name for name in CAMERAS})
FPS = 30
NS_PER_SEC = 10**9
STAMP_NS = 1_700_000_000 * NS_PER_SEC


@dataclass(frozen=True)
class Case:
    """``loop``: imports a file into an episode, the plain way; ``ours``: all of it into a folder."""

    name: str
    size: int
    loop: Callable[[Path], None]
    ours: Callable[[Path], None]


def main() -> None:
    """Print the table and the line of JSON."""
    options = parse()
    width, height = map(int, options.size.split("x"))
    scratch = Path(tempfile.mkdtemp(dir=options.scratch))
    try:
        frames = scene(round(options.seconds * FPS), height, width)
        cases = [make(scratch, frames, options.episodes, options.workers) for make in (hdf5_case, mcap_case, copy_case)]
        show([(case, *measure(case, scratch, options.rounds)) for case in cases], options)
    finally:
        shutil.rmtree(scratch)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--scratch", help="a folder on the disk to measure on")
    return parser.parse_args()


def scene(count: int, height: int, width: int) -> np.ndarray:
    """(count, height, width, 3): a bright square that moves over a grainy ground."""
    ground = np.random.default_rng(0).integers(60, 80, (height, width, 3), np.uint8)
    frames = np.repeat(ground[None], count, axis=0)
    side = height // 4
    for at, frame in enumerate(frames):
        left = at * 2 % (width - side)
        frame[side : 2 * side, left : left + side] = (220, 40, 40)
    return frames


def measure(case: Case, scratch: Path, rounds: int) -> tuple[float, float]:
    """Median seconds of the loop and of ours."""
    turns: dict[str, list[float]] = {"loop": [], "ours": []}
    for number in range(rounds):
        for name, run in (("loop", case.loop), ("ours", case.ours)):
            root = scratch / f"{case.name}_{name}_{number}"
            begin = time.perf_counter()
            run(root)
            turns[name].append(time.perf_counter() - begin)
            shutil.rmtree(root)
    return statistics.median(turns["loop"]), statistics.median(turns["ours"])


def show(rows: list[tuple[Case, float, float]], options: argparse.Namespace) -> None:
    table = Table("case", "MB", "plain loop, MB/s", f"ours ({options.workers} processes), MB/s", "times faster")
    found: dict[str, Any] = {"episodes": options.episodes, "size": options.size, "workers": options.workers}
    for case, loop, ours in rows:
        size = case.size / 1e6
        table.add_row(case.name, f"{size:.1f}", f"{size / loop:.1f}", f"{size / ours:.1f}", f"{loop / ours:.2f}")
        found |= {f"{case.name}_mb_s": round(size / ours, 2), f"{case.name}_vs_loop": round(loop / ours, 2)}
    Console().print(table)
    print(json.dumps(found))


def hdf5_case(scratch: Path, frames: np.ndarray, episodes: int, workers: int) -> Case:
    """Pixels and joints in files of HDF5."""
    import h5py

    folder = scratch / "hdf5"
    folder.mkdir()
    for number in range(episodes):
        with h5py.File(folder / f"take_{number}.hdf5", "w") as file:
            file["q"] = joints(len(frames))
            for camera in CAMERAS:
                file.create_dataset(camera, data=frames, chunks=(1, *frames.shape[1:]))

    def loop(root: Path) -> None:
        writer = DatasetWriter(root)
        for path in sorted(folder.iterdir()):
            with h5py.File(path) as file, writer.new_episode() as out:
                for at, q in enumerate(file["q"]):
                    out.append(keys.JOINT_POSITION, q, at * NS_PER_SEC // FPS)
                for camera in CAMERAS:
                    for at, frame in enumerate(file[camera]):
                        out.append(f"{keys.IMAGE_PREFIX}{camera}", frame, at * NS_PER_SEC // FPS)

    signals = {f"{keys.IMAGE_PREFIX}{camera}": SignalMapping((camera,)) for camera in CAMERAS}
    signals[keys.JOINT_POSITION] = SignalMapping(("q",), unit="rad")
    return Case("hdf5", weight(folder), loop, importer("hdf5", folder, signals, workers))


def mcap_case(scratch: Path, frames: np.ndarray, episodes: int, workers: int) -> Case:
    """JPEGs and joints in ROS 2 bags."""
    from PIL import Image
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    folder = scratch / "bags"
    folder.mkdir()
    for number in range(episodes):
        write_bag(folder / f"bag_{number}", frames)
    types = get_typestore(Stores.ROS2_HUMBLE)

    def loop(root: Path) -> None:
        writer = DatasetWriter(root)
        for path in sorted(folder.iterdir()):
            with AnyReader([path], default_typestore=types) as reader, writer.new_episode() as out:
                for connection, _, data in reader.messages():
                    message = reader.deserialize(data, connection.msgtype)
                    stamp = message.header.stamp
                    time_ns = stamp.sec * NS_PER_SEC + stamp.nanosec
                    if connection.topic == "/joint_states":
                        out.append(keys.JOINT_POSITION, message.position, time_ns)
                    else:
                        frame = np.asarray(Image.open(io.BytesIO(message.data)).convert("RGB"))
                        out.append(f"{keys.IMAGE_PREFIX}{connection.topic[1:]}", frame, time_ns)

    signals = {f"{keys.IMAGE_PREFIX}{camera}": SignalMapping((f"/{camera}",)) for camera in CAMERAS}
    signals[keys.JOINT_POSITION] = SignalMapping(("/joint_states.position",), unit="rad")
    return Case("mcap", weight(folder), loop, importer("mcap", folder, signals, workers))


def copy_case(scratch: Path, frames: np.ndarray, episodes: int, workers: int) -> Case:
    """Cameras that are videos already: decoded and encoded again by the loop, copied by us; one process each."""
    import av

    with DatasetWriter(scratch / "videos").new_episode() as out:
        for at, frame in enumerate(frames):
            out.append(keys.IMAGE_WRIST, frame, at * NS_PER_SEC // FPS)
    video = out.path / f"{keys.IMAGE_WRIST}.mp4"
    times = [at * NS_PER_SEC // FPS for at in range(len(frames))]
    names = [f"{keys.IMAGE_PREFIX}{camera}" for camera in CAMERAS]

    def loop(root: Path) -> None:
        writer = DatasetWriter(root)
        for _ in range(episodes):
            with writer.new_episode() as out:
                for name in names:
                    with av.open(str(video)) as container:
                        for time_ns, frame in zip(times, container.decode(video=0), strict=True):
                            out.append(name, frame.to_ndarray(format="rgb24"), time_ns)

    def ours(root: Path) -> None:
        writer = DatasetWriter(root)
        for _ in range(episodes):
            with writer.new_episode() as out:
                if not all(out.copy_video(name, video, 0, times) for name in names):
                    raise SystemExit("a video was not copied")

    return Case("copied_video", video.stat().st_size * episodes * len(CAMERAS), loop, ours)


def importer(name: str, folder: Path, signals: dict[str, SignalMapping], workers: int) -> Callable[[Path], None]:
    """All episodes of ``folder`` into a root."""

    def run(root: Path) -> None:
        root.mkdir()
        source: Source = open_source(name, folder)
        mapping = ImportMapping(name, ROBOT.name, signals, fps=float(FPS) if name == "hdf5" else None)
        episodes = source.episodes()
        places = {episode.name: at for at, episode in enumerate(episodes)}
        for result in record_all(episodes, places, root, Plan(mapping, ROBOT, dict(source.fields())), workers):
            if isinstance(result, Refused):
                raise SystemExit(result.reason)

    return run


def write_bag(path: Path, frames: np.ndarray) -> None:
    from PIL import Image
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    kinds = {name.rpartition("/")[2]: kind for name, kind in types.types.items()}

    def header(at: int) -> Any:
        sec, nanosec = divmod(STAMP_NS + at * NS_PER_SEC // FPS, NS_PER_SEC)
        return kinds["Header"](stamp=kinds["Time"](sec=sec, nanosec=nanosec), frame_id="base")

    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {"/joint_states": "JointState"} | {f"/{camera}": "CompressedImage" for camera in CAMERAS}
        lines = {
            topic: writer.add_connection(topic, kinds[kind].__msgtype__, typestore=types)
            for topic, kind in topics.items()
        }
        for at, (q, frame) in enumerate(zip(joints(len(frames)), frames, strict=True)):
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "JPEG", quality=90)
            picture = kinds["CompressedImage"](
                header=header(at), format="jpeg", data=np.frombuffer(file.getvalue(), np.uint8)
            )
            nothing = np.zeros(0)
            state = kinds["JointState"](
                header=header(at), name=list(JOINTS), position=q, velocity=nothing, effort=nothing
            )
            for topic, line in lines.items():
                message = state if topic == "/joint_states" else picture
                data = types.serialize_cdr(message, message.__msgtype__)
                writer.write(line, STAMP_NS + at * NS_PER_SEC // FPS, data)


def joints(count: int) -> np.ndarray:
    """(count, 6) rad."""
    return np.sin(np.arange(count)[:, None] / 30 + np.arange(len(JOINTS)))


def weight(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
