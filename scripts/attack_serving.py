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
import time
from typing import Any

import numpy as np
from bench.hostile import heavy_frames, hostile_frame
from bench.memory import family, resident
from bench.toy_serving import observation, toy_server
from rich.console import Console
from rich.table import Table
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.utils.serialization import serialise

RESULT = serialise(keys.RESULT)
PAUSE_SEC = 1 / 15  # between an answer and the next observation, as a robot has them


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
    """Memory of the largest of a process and all below it, MB."""
    return max(map(resident, family(pid))) / 1e6


def measure(frames: int, attackers: int, model_ms: float, alone: int) -> list[tuple[str, list[float], float]]:
    """Rows of name, the robot's milliseconds, and the memory afterwards: before, during and after the attack."""
    with toy_server(model_ms) as (port, pid):
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
    options = parser.parse_args()
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
