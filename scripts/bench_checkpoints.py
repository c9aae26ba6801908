"""A trained policy behind this server: what several robots get, and what one notices while other checkpoints load.

    python scripts/bench_checkpoints.py data/checkpoints/lerobot/quickstart
    python scripts/bench_checkpoints.py <experiment> --robots 1 4 16 --device cuda

Its latest checkpoint is served from a folder that holds it three times. ``lock`` is the same policy, codec included,
behind a lock in one process, as most robots are served. ``ours, loading``: one robot is answered by the first while
sessions with the second and the third come and go, and memory is for two: each of them is loaded again and again.
Robots send pictures of the size that they are shrunk to, and the next observation as soon as they are answered.

The last line is JSON: with the most robots how many times the rate of ``lock``; with one robot our p50 over that of
``lock``; and p99 beside loading over p99 without.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from bench.load import Answers, closed_loop, websocket_client
from bench.toy_serving import free_port, process, until_there
from rich.console import Console
from rich.table import Table

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.codecs.build import Recipe
from positronic.serving.offer import find_offered
from positronic.serving.policy import read_checkpoint
from positronic.serving.warm_up import dummy_observation
from positronic.training.checkpoints import CHECKPOINTS, ID_DIGITS, Checkpoint
from positronic.utils.serialization import serialise

ROOT = Path(__file__).parents[1]
OTHERS = ROOT / "scripts" / "bench" / "other_servers.py"
COPIES, IN_MEMORY = 3, 2.5
READY, ERROR = serialise("ready"), serialise("error")
SETTLE_SEC = 1.0
GB = 1e9


@contextmanager
def copies_of(checkpoint: Checkpoint) -> Iterator[Path]:
    """An experiment that holds a checkpoint three times."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, COPIES + 1):
            place = Path(folder) / CHECKPOINTS / f"{number:0{ID_DIGITS}d}"
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(checkpoint.path.resolve(), target_is_directory=True)
        yield Path(folder)


@contextmanager
def ours(folder: Path, device: str, memory_gb: float) -> Iterator[int]:
    """The port of a server, its first checkpoint loaded."""
    port = free_port()
    typed = [f"checkpoints_dir={folder}", "checkpoint=1", f"server.device={device}", f"server.memory_gb={memory_gb}"]
    where = ["server.host=127.0.0.1", f"server.port={port}"]
    with process([sys.executable, str(ROOT / "run.py"), "stage=serve", *typed, *where], {}):
        InferenceClient("127.0.0.1", port).session().close()
        yield port


@contextmanager
def lock(folder: Path, device: str) -> Iterator[int]:
    """The port of the same policy behind a lock."""
    port = free_port()
    with process([sys.executable, str(OTHERS), "lock", str(port), str(folder), device], {}):
        until_there(lambda: websocket_client(port, "/", lambda ready: b"", ERROR, READY))
        yield port


def frame_of(recipe: Recipe) -> bytes:
    """What a robot sends: noise for pictures, so that nothing of them is special."""
    draw = np.random.default_rng(0)
    observation = dummy_observation(recipe)
    pictures = {image.signal: draw.integers(0, 255, image.shape, np.uint8) for image in recipe.codec.images}
    return serialise(observation | pictures)


def answers_of(port: int, path: str, frame: bytes, robots: int, seconds: float) -> Answers:
    """A closed loop of so many robots."""
    clients = [websocket_client(port, path, lambda ready: frame, ERROR, READY) for _ in range(robots)]
    try:
        closed_loop(clients, SETTLE_SEC)
        return closed_loop(clients, seconds)
    finally:
        for client in clients:
            client.connection.close()


class Loads:
    """Sessions with the second and the third checkpoint in turn, one after the other, while the block runs."""

    def __init__(self, port: int) -> None:
        self._client = InferenceClient("127.0.0.1", port, on_status=lambda status, message: None)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def __enter__(self) -> Loads:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._client.session(2 + self.count % 2).close()
            self.count += 1


def measure(experiment: str, device: str, robots: Sequence[int], seconds: float) -> list[tuple[str, int, Answers]]:
    """Rows of server, robots and what they got."""
    checkpoint = find_offered(experiment)
    frame = frame_of(read_checkpoint(checkpoint)[0])
    rows = []
    with copies_of(checkpoint) as folder:
        memory_gb = IN_MEMORY * max(checkpoint.serving_bytes(), 1) / GB
        with ours(folder, device, memory_gb) as port:
            path = f"{keys.ROUTE_SESSION}/1"
            rows += [("ours", count, answers_of(port, path, frame, count, seconds)) for count in robots]
            InferenceClient("127.0.0.1", port).session(2).close()  # what is imported for a first load is imported now
            with Loads(port) as loads:
                beside = answers_of(port, path, frame, 1, max(seconds, 10.0))
            rows.append((f"ours, loading {loads.count} times", 1, beside))
        with lock(folder, device) as port:
            rows += [("lock", count, answers_of(port, "/", frame, count, seconds)) for count in robots]
    return rows


def main() -> None:
    """Measure, print a table, and JSON of it as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="its folder, the one that holds checkpoints/")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--robots", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options = parser.parse_args()
    begin = time.monotonic()
    rows = measure(options.experiment, options.device, options.robots, options.seconds)
    table = Table(title=f"{options.experiment}, {time.monotonic() - begin:.0f} s")
    for heading in ("server", "robots", "p50 ms", "p99 ms", "per s", "dropped"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    for server, count, answers in rows:
        numbers = (f"{answers.percentile(50):.1f}", f"{answers.percentile(99):.1f}", f"{answers.per_second:.1f}")
        table.add_row(server, str(count), *numbers, str(answers.dropped))
    Console().print(table)
    found = {(server.split(",")[0], count, "loading" in server): answers for server, count, answers in rows}
    few, most = min(options.robots), max(options.robots)
    rate = [found[server, most, False].per_second for server in ("ours", "lock")]
    median = [found[server, few, False].percentile(50) for server in ("ours", "lock")]
    tail = [found["ours", 1, loading].percentile(99) for loading in (True, False) if ("ours", 1, loading) in found]
    ratios = {f"n{most}_vs_lock": rate[0] / rate[1], f"n{few}_p50_vs_lock": median[0] / median[1]}
    if len(tail) == 2:
        ratios["p99_beside_loads"] = tail[0] / tail[1]
    print(json.dumps({name: round(value, 2) for name, value in ratios.items()}))


if __name__ == "__main__":
    main()
