"""A server of ours over a toy model, in processes of its own, and the observation that its robots send."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.load import Client
from positronic import keys
from positronic.client.client import InferenceClient
from positronic.codecs.build import build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.training.checkpoints import write_info, writing_checkpoint

IMAGE_SIZE = 224
STEPS = 16
COLUMNS = {
    "observation.state": ["state.ee_pose", "state.grip"],
    "observation.images.left": ["image.wrist"],
    "observation.images.side": ["image.exterior"],
    "action": ["action.ee_pose", "action.grip"],
}
PASS_MS, ITEM_MS = "POSITRONIC_TOY_PASS_MS", "POSITRONIC_TOY_ITEM_MS"
START_SEC, RETRY_SEC, END_SEC = 60.0, 0.05, 60.0


class ToyModel:
    """Repeats the observed state, after the time that a model takes on another device."""

    noise_shape = None

    def __init__(self) -> None:
        self._pass_sec, self._item_sec = (float(os.environ[name]) / 1000 for name in (PASS_MS, ITEM_MS))

    def predict(self, observations: Sequence[Mapping[str, Any]], noise: None = None) -> list[NDArray[np.float32]]:
        if self._pass_sec:
            time.sleep(self._pass_sec + self._item_sec * len(observations))
        return [np.tile(each["observation.state"], (STEPS, 1)) for each in observations]

    def close(self) -> None:
        """Nothing is held."""


def load_model(vendor: str, checkpoint: Path, device: str, backend: str) -> ToyModel:
    return ToyModel()


def observation() -> dict[str, Any]:
    """Two pictures of 224 x 224 and the state, 300 kB."""
    draw = np.random.default_rng(0)
    pictures = {
        camera: draw.integers(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR)
    }
    pose = np.array([0.4, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0])
    return {keys.EE_POSE: pose, keys.GRIP: np.array([0.5]), **pictures, keys.TASK: "stack"}


@contextmanager
def toy_server(pass_ms: float, item_ms: float = 0.0) -> Iterator[tuple[int, int]]:
    """The port and the main process of a server whose forward pass takes ``pass_ms`` and ``item_ms`` for each
    observation."""
    with tempfile.TemporaryDirectory() as folder:
        codec = CodecConfig(name="ee", state=["ee_pose", "grip"], images=["wrist", "exterior"])
        recipe = build(codec, ModalityConfig([IMAGE_SIZE] * 2, COLUMNS))
        with writing_checkpoint(Path(folder), 1) as checkpoint:
            write_info(checkpoint, {"vendor": "toy", "recipe": recipe.to_dict(), "training": {"backend": "native"}})
        port = free_port()
        environment = {PASS_MS: str(pass_ms), ITEM_MS: str(item_ms)}
        with process([sys.executable, __file__, folder, str(port)], environment) as pid:
            InferenceClient("127.0.0.1", port).models()
            yield port, pid


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def process(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[int]:
    """A process that is quiet, and ended afterwards with all that it has started; its number."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    started = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield started.pid
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(END_SEC)
        with contextlib.suppress(ProcessLookupError):  # LitServe's own end leaves its children behind
            os.killpg(started.pid, signal.SIGKILL)


def until_there(connect: Callable[[], Client]) -> None:
    """Raises the last error when nobody has answered after ``START_SEC``."""
    end = time.monotonic() + START_SEC
    while True:
        try:
            connect().connection.close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(RETRY_SEC)


if __name__ == "__main__":
    from bench.toy_serving import load_model as loader  # by this name the worker's process finds it too
    from positronic.serving.server import serve
    from positronic.serving.settings import ServerSettings

    given_folder, given_port = sys.argv[1:]
    serve(ServerSettings(Path(given_folder), host="127.0.0.1", port=int(given_port), device="cpu", loader=loader))
