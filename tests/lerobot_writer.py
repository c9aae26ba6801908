"""LeRobot datasets for tests: v3.0 by LeRobot's own API, v2.0 and v2.1 written by hand as they were laid out."""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
MOTORS = [f"{joint}.pos" for joint in (*JOINTS, "gripper")]
TASKS = ("Fold the towel.", "Unfold it.")
FPS, HEIGHT, WIDTH = 10, 48, 64
FRONT, WRIST = "observation.images.front", "observation.images.wrist"


def frame(number: int) -> np.ndarray:
    """Green, and as blue as its number."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 1], pixels[..., 2] = 120, 20 * number
    return pixels


def rows(length: int, ahead: float = 0.0) -> np.ndarray:
    """Joints that go to 110 degrees, and a gripper from 100 to 0."""
    steps = np.linspace(0, 1, length)[:, None]
    return np.concatenate([steps * [110, -90, 80, 45, 30] + ahead, 100 - 100 * steps], axis=1).astype(np.float32)


def write_by_lerobot(root: Path, lengths: Iterable[int] = (6, 4, 5), finish: bool = True) -> Any:
    """v3.0, by LeRobot's own API: a wrist camera as video, a front camera as pictures. Returns its writer."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    picture = {"shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    numbers = {"dtype": "float32", "shape": (len(MOTORS),), "names": MOTORS}
    dataset = LeRobotDataset.create(
        "local/so101",
        FPS,
        {
            "action": numbers,
            "observation.state": numbers,
            WRIST: picture | {"dtype": "video"},
            FRONT: picture | {"dtype": "image"},
        },
        root,
        robot_type="so101_follower",
    )
    for episode, length in enumerate(lengths):
        for at in range(length):
            pictures = {WRIST: frame(at), FRONT: frame(at + 1)}
            numbers = {"observation.state": rows(length)[at], "action": rows(length, ahead=1.0)[at]}
            dataset.add_frame(numbers | pictures | {"task": TASKS[episode % 2]})
        dataset.save_episode()
    if finish:
        dataset.finalize()
    return dataset


def write_v2(
    root: Path,
    version: str = "v2.1",
    lengths: Iterable[int] = (6, 4),
    change: Callable[[dict[str, Any]], None] | None = None,
    motors: Sequence[str] = tuple(MOTORS),
    numbers: Callable[[int, float], np.ndarray] = rows,
) -> Path:
    """v2.0 or v2.1; ``change``: of the content of info.json. ``numbers``: (length, ahead) -> what state and action
    hold of ``motors``."""
    lengths = list(lengths)
    vector = {"dtype": "float32", "shape": [len(motors)], "names": {"motors": list(motors)}}
    picture = {"shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]}
    counters = ("frame_index", "episode_index", "index", "task_index")
    info = {
        "codebase_version": version,
        "robot_type": "so100",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": len(TASKS),
        "total_videos": len(lengths),
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            "action": vector,
            "observation.state": vector,
            FRONT: picture | {"dtype": "video", "info": {"video.fps": float(FPS), "video.codec": "h264"}},
            WRIST: picture | {"dtype": "image"},
            "next.done": {"dtype": "bool", "shape": [1], "names": None},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: {"dtype": "int64", "shape": [1], "names": None} for name in counters},
        },
    }
    if change is not None:
        change(info)
    meta = root / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(info))
    _lines(meta / "tasks.jsonl", [{"task_index": at, "task": task} for at, task in enumerate(TASKS)])
    listed = [{"episode_index": i, "tasks": [TASKS[i % 2]], "length": n} for i, n in enumerate(lengths)]
    _lines(meta / "episodes.jsonl", listed)
    if version == "v2.1":
        stats = {"action": {"min": [0.0] * len(MOTORS), "max": [1.0] * len(MOTORS)}}
        _lines(meta / "episodes_stats.jsonl", [{"episode_index": i, "stats": stats} for i in range(len(lengths))])
    for episode, length in enumerate(lengths):
        pq.write_table(_table(episode, length, sum(lengths[:episode]), numbers), _under(root, data_of(root, episode)))
        write_video(_under(root, video_of(root, episode)), length)
    return root


def data_of(root: Path, episode: int) -> Path:
    """The rows of an episode of v2."""
    return root / f"data/chunk-000/episode_{episode:06d}.parquet"


def video_of(root: Path, episode: int) -> Path:
    """The frames of an episode of v2."""
    return root / f"videos/chunk-000/{FRONT}/episode_{episode:06d}.mp4"


def write_video(path: Path, length: int, fps: int = FPS, height: int = HEIGHT) -> None:
    """H.264, a keyframe every second frame, as LeRobot encodes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", fps, options={"g": "2", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, height, "yuv420p"
        for at in range(length):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(at)[:height], format="rgb24")))
        container.mux(stream.encode(None))


def _table(episode: int, length: int, first: int, numbers: Callable[[int, float], np.ndarray]) -> pa.Table:
    counts = np.arange(length)
    picture = [{"bytes": _png(frame(at + 1)), "path": f"frame-{at:06d}.png"} for at in range(length)]
    return pa.table(
        {
            "action": pa.array(numbers(length, 1.0).tolist(), pa.list_(pa.float32())),
            "observation.state": pa.array(numbers(length, 0.0).tolist(), pa.list_(pa.float32())),
            WRIST: pa.array(picture, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "next.done": pa.array(counts == length - 1),
            "timestamp": pa.array((counts / FPS).astype(np.float32)),
            "frame_index": counts,
            "episode_index": np.full(length, episode),
            "index": first + counts,
            "task_index": np.full(length, episode % 2),
        }
    )


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _lines(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def _under(root: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
