"""What strangers cost an honest robot: its latency alone and beside a stream of malformed frames, in one run.

    python scripts/attack_serving.py                              # 10,000 frames from two connections
    python scripts/attack_serving.py --frames 1000 --model-ms 0

A toy model is served on loopback; the robot, and each attacker, is a process of its own. Also shown is the memory of
the server's largest process. On a machine with fewer cores than processes the honest robot also waits for a core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench.hostile import heavy_frames, hostile_frame
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.codecs.build import build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.training.checkpoints import write_info, writing_checkpoint
from positronic.utils.serialization import serialise

COLUMNS = {
    "observation.state": ["state.ee_pose", "state.grip"],
    "observation.image": ["image.wrist"],
    "action": ["action.ee_pose", "action.grip"],
}
IMAGE_SIZE = 224
STEPS = 16
MODEL_MS = "POSITRONIC_TOY_MODEL_MS"
RESULT = serialise(keys.RESULT)
PAUSE_SEC = 1 / 15  # between an answer and the next observation, as a robot has them


class ToyModel:
    """Repeats the observed state, after the time that a model takes."""

    noise_shape = None

    def predict(self, observations: Sequence[Mapping[str, Any]], noise: None = None) -> list[NDArray[np.float32]]:
        time.sleep(float(os.environ[MODEL_MS]) / 1000)
        return [np.tile(each["observation.state"], (STEPS, 1)) for each in observations]

    def close(self) -> None:
        """Nothing is held."""


def load_model(vendor: str, checkpoint: Path, device: str, backend: str) -> ToyModel:
    return ToyModel()


def observation() -> dict[str, Any]:
    picture = np.random.default_rng(0).integers(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    pose = np.array([0.4, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0])
    return {keys.EE_POSE: pose, keys.GRIP: np.array([0.5]), keys.IMAGE_WRIST: picture, keys.TASK: "stack"}


@contextmanager
def serving(model_ms: float) -> Iterator[tuple[int, int]]:
    """The port and the main process of a server of its own."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        codec = CodecConfig(name="ee", state=["ee_pose", "grip"], images=["wrist"])
        recipe = build(codec, ModalityConfig([IMAGE_SIZE] * 2, COLUMNS))
        with writing_checkpoint(Path(folder), 1) as checkpoint:
            info = {"vendor": "toy", "recipe": recipe.to_dict(), "training": {"backend": "native"}}
            write_info(checkpoint, info)
        command = [sys.executable, __file__, "--serve", folder, str(port)]
        environment = {**os.environ, MODEL_MS: str(model_ms)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=environment, **quiet)
        try:
            InferenceClient("127.0.0.1", port).models()
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def serve(folder: str, port: str) -> None:
    """The server's process."""
    from positronic.serving.server import serve
    from positronic.serving.settings import ServerSettings

    serve(ServerSettings(Path(folder), host="127.0.0.1", port=int(port), device="cpu", loader=load_model))


def attack(port: int, numbers: range, ready: Any, begin: Any, accepted: Any) -> None:
    """Send the frames of these numbers, one after the answer to the other; a new session when one is closed.
    ``accepted`` counts those that were sound after all and went through the model."""
    address, honest, rest = f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}", serialise(observation()), list(numbers)
    heavy_frames()
    ready.release()
    begin.wait()
    while rest:
        with connect(address, max_size=None, compression=None, proxy=None) as websocket:
            websocket.recv()
            try:
                while rest:
                    websocket.send(hostile_frame(rest.pop(), honest))
                    if RESULT in websocket.recv()[:20]:
                        with accepted.get_lock():
                            accepted.value += 1
            except ConnectionClosed:
                continue


def ask(port: int, until: Any, at_least: int) -> list[float]:
    """Milliseconds of each answer to an honest robot, until told to stop."""
    seen, taken_ms = observation(), []
    with InferenceClient("127.0.0.1", port).session() as session:
        session.infer(seen)
        while len(taken_ms) < at_least or not until():
            start_sec = time.perf_counter()
            session.infer(seen)
            taken_ms.append((time.perf_counter() - start_sec) * 1000)
            time.sleep(PAUSE_SEC)
    return taken_ms


def largest_mb(pid: int) -> float:
    """Memory of the largest of a process's descendants, MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return max([own, *(largest_mb(int(child)) for child in children)])


def measure(frames: int, attackers: int, model_ms: float, alone: int) -> list[tuple[str, list[float], float]]:
    """Rows of name, the robot's milliseconds, and the memory afterwards: before, during and after the attack."""
    with serving(model_ms) as (port, pid):
        rows = [("alone", ask(port, lambda: True, alone), largest_mb(pid))]
        fresh = multiprocessing.get_context("spawn")
        ready, begin, accepted = fresh.Semaphore(0), fresh.Event(), fresh.Value("i", 0)
        parts = [range(start, frames, attackers) for start in range(attackers)]
        signals = ready, begin, accepted
        processes = [fresh.Process(target=attack, args=(port, part, *signals), daemon=True) for part in parts]
        for process in processes:
            process.start()
        for _ in processes:
            ready.acquire()
        begin.set()
        taken_ms = ask(port, lambda: not any(process.is_alive() for process in processes), 1)
        name = f"beside {frames} spoiled frames ({accepted.value} sound after all)"
        rows.append((name, taken_ms, largest_mb(pid)))
        if any(process.exitcode for process in processes):
            raise SystemExit("An attacker ended with an error: see above.")
        return [*rows, ("alone again", ask(port, lambda: True, alone), largest_mb(pid))]


def main() -> None:
    """Measure, print a table, and JSON of it as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000, help="malformed frames in all")
    parser.add_argument("--attackers", type=int, default=2, help="connections that send them")
    parser.add_argument("--model-ms", type=float, default=20.0, help="what a forward pass takes")
    parser.add_argument("--alone", type=int, default=300, help="answers to the robot alone")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    rows = measure(options.frames, options.attackers, options.model_ms, options.alone)
    table = Table(title="an honest robot's answers")
    for heading in ("", "answers", "p50 ms", "p99 ms", "worst ms", "MB afterwards"):
        table.add_column(heading)
    for name, taken_ms, memory_mb in rows:
        p50, p99, worst = np.percentile(taken_ms, [50, 99, 100])
        table.add_row(name, str(len(taken_ms)), f"{p50:.1f}", f"{p99:.1f}", f"{worst:.1f}", f"{memory_mb:.0f}")
    Console().print(table)
    (_, before, _), (_, during, _), *_ = rows
    print(json.dumps({"p99_ratio": round(float(np.percentile(during, 99) / np.percentile(before, 99)), 2)}))


if __name__ == "__main__":
    main()
