"""A vendor of numpy alone, for a real server without torch: ``python toy_vendor.py <settings as JSON>``.

A checkpoint's ``toy.json`` may say the predicted ``grip``, that the whole state is to be repeated (``echo``), how long
a forward pass takes (``forward_sec``), a ``fault`` to raise while loading, and a ``fifo``: if it exists, loading goes
on when something is written into it.
"""

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from positronic.errors import PositronicError

CHUNK = 4
OPEN = "open "  # and a path: a file that the model does not find
WAIT = "wait for "  # and the path of a fifo: an instruction that is answered when something is written into it


def _lost(*args):
    raise RuntimeError("CUDA error: device-side assert triggered")


LOST_TORCH = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True, synchronize=_lost))


class ToyModel:
    """Moves nowhere: each step repeats the observed pose, with the checkpoint's own grip; or the state (``echo``)."""

    noise_shape = None

    def __init__(self, grip=0.25, echo=False, forward_sec=0.0):
        self.grip, self.echo, self.forward_sec = grip, echo, forward_sec
        self.batches = []

    def predict(self, observations, noise=None):
        self.batches.append(len(observations))
        time.sleep(self.forward_sec)  # what its forward pass takes
        if any(o["task"] == "die" for o in observations):
            raise MemoryError("the toy has no memory")
        for task in (o["task"] for o in observations):
            if task.startswith(OPEN):
                raise FileNotFoundError(2, "No such file or directory", task.removeprefix(OPEN))
            if task.startswith(WAIT):
                Path(task.removeprefix(WAIT)).read_text()
        if any(o["task"] == "hang" for o in observations):
            threading.Event().wait()
        if any(o["task"] == "lose the device" for o in observations):
            sys.modules["torch"] = LOST_TORCH
            raise RuntimeError("CUDA error: device-side assert triggered")
        return [self._chunk(o["observation.state"]) for o in observations]

    def close(self):
        pass

    def _chunk(self, state):
        return (
            np.tile(state, (CHUNK, 1))
            if self.echo
            else np.tile(np.append(state[:7], np.float32(self.grip)), (CHUNK, 1))
        )


def load_model(vendor, checkpoint, device, backend="native"):
    toy = json.loads((checkpoint / "toy.json").read_text())
    if "fault" in toy:
        raise PositronicError(toy["fault"])
    if "fifo" in toy and Path(toy["fifo"]).exists():
        Path(toy["fifo"]).read_text()
        toy = json.loads((checkpoint / "toy.json").read_text())  # as it is by now
    return ToyModel(toy.get("grip", 0.25), toy.get("echo", False), toy.get("forward_sec", 0.0))


if __name__ == "__main__":
    from positronic.serving.server import serve
    from positronic.serving.settings import ServerSettings

    given = json.loads(sys.argv[1])
    fields = {"host": "127.0.0.1", "loader": load_model, "device": "cpu", **given}
    serve(ServerSettings(**{**fields, "checkpoints_dir": Path(given["checkpoints_dir"])}))
