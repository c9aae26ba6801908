"""Toy checkpoints, and a real LitServe server over them in processes of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.codecs.build import build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.training.checkpoints import write_info, writing_checkpoint
from positronic.utils.serialization import deserialise

HERE = Path(__file__).parent
COLUMNS = {
    "observation.state": ["state.ee_pose", "state.grip"],
    "observation.images.left": ["image.wrist"],
    "observation.images.side": ["image.exterior"],
    "action": ["action.ee_pose", "action.grip"],
}


def make_recipe(columns=COLUMNS, embodiment=None, **changes):
    codec = {"name": "ee", "state": ["ee_pose", "grip"], "images": ["wrist", "exterior"], **changes}
    return build(CodecConfig(**codec), ModalityConfig([32, 32], columns), embodiment=embodiment)


def make_checkpoint(experiment, step, recipe=None, **toy):
    """A checkpoint of the toy vendor; further keyword arguments go into its ``toy.json``."""
    recipe = recipe or make_recipe()
    with writing_checkpoint(experiment, step) as folder:
        (folder / "toy.json").write_text(json.dumps(toy))
        write_info(folder, {"vendor": "toy", "recipe": recipe.to_dict(), "training": {"backend": "native"}})


def observation(**changes):
    frame = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    return {
        keys.EE_POSE: np.array([0.4, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0]),
        keys.GRIP: np.array([0.5]),
        keys.IMAGE_WRIST: frame,
        keys.IMAGE_EXTERIOR: frame,
        keys.TASK: "stack",
        **changes,
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def dial(port, path="", **options):
    """A connection to a session's address."""
    return connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}{path}", proxy=None, **options)


def ready(websocket):
    """Reads until the session is ready; its meta."""
    while (message := deserialise(websocket.recv(timeout=60)))["status"] in ("waiting", "loading"):
        pass
    assert message["status"] == "ready", message
    return message["meta"]


@contextlib.contextmanager
def running(experiment, **settings):
    """Yields the port of a server that takes connections, and its main process."""
    port = free_port()
    fields = json.dumps({"checkpoints_dir": str(experiment), "port": port, **settings})
    process = subprocess.Popen(
        [sys.executable, str(HERE / "toy_vendor.py"), fields],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"},  # this tree's server, wherever one is installed
    )
    try:
        certificate = settings.get("tls_cert")
        host = "127.0.0.1" if certificate is None else "localhost"  # which is what the certificate is for
        client = InferenceClient(host, port, settings.get("token"), tls=certificate is not None, tls_ca=certificate)
        client.models()
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
