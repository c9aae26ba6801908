"""The stand-in for Isaac-GR00T behaves as the real one was seen to: flags, files and their order, wire and texts."""

import contextlib
import io
import json
import shutil
import signal
import socket
import subprocess

import msgpack
import numpy as np
import pytest
import zmq
from standins import Checkout, write_modality

MARKS = {"__ModalityConfig__": "nd", "__ModalityConfig_class__": "npy"}
TRAINER_FILES = {"config.json", "model.safetensors", "training_args.bin", "optimizer.pt", "scheduler.pt"}
TRAINER_FILES |= {"rng_state.pth", "trainer_state.json"}
SERVED_FILES = {"experiment_cfg", "processor_config.json", "statistics.json", "embodiment_id.json"}
SECONDS = 60  # a machine under load


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def finetune(checkout, base, dataset, modality, output, steps, *more):
    """What launch_finetune.py does, at its end."""
    typed = ["--base-model-path", base, "--dataset-path", dataset, "--embodiment-tag", "NEW_EMBODIMENT"]
    typed += ["--modality-config-path", modality, "--output-dir", output, "--num-gpus", "1"]
    typed += ["--max_steps", str(steps), "--save-steps", "3", *more]
    command = [checkout.python, "gr00t/experiment/launch_finetune.py", *typed]
    return subprocess.run(command, cwd=checkout.root, capture_output=True, text=True, timeout=SECONDS)


@pytest.fixture
def train(gr00t_checkout, gr00t_base, gr00t_v21, modality_file, tmp_path):
    """``train(max_steps, *more)`` into ``tmp_path/out``."""

    def start(steps, *more, modality=None):
        modality = modality or modality_file()
        return finetune(gr00t_checkout, gr00t_base, gr00t_v21, modality, tmp_path / "out", steps, *more)

    return start


@pytest.fixture(scope="module")
def trained(gr00t_base, gr00t_v21, tmp_path_factory):
    """Six steps: what the process said, and the experiment's folder. Read it, do not write into it."""
    folder = tmp_path_factory.mktemp("trained")
    checkout = Checkout("isaac_gr00t", folder / "Isaac-GR00T", "main")
    modality = write_modality(folder / "modality")
    done = finetune(checkout, gr00t_base, gr00t_v21, modality, folder / "out", 6, "--save-total-limit", "1")
    assert done.returncode == 0, done.stderr
    return done, folder / "out"


@pytest.fixture
def serve(gr00t_checkout):
    """``serve(checkpoint)``: a running server's process and port."""
    processes = []

    def start(*typed):
        port = free_port()
        command = [gr00t_checkout.python, "gr00t/eval/run_gr00t_server.py", *typed, "--host", "127.0.0.1"]
        processes.append(
            subprocess.Popen([*command, "--port", str(port)], cwd=gr00t_checkout.root, stdout=subprocess.PIPE)
        )
        return processes[-1], port

    yield start
    for process in processes:
        process.kill()
        process.communicate()


class Client:
    """One socket; finds the dialect out as it connects."""

    def __init__(self, port, seconds=SECONDS):
        self.dialect, self._socket = None, zmq.Context.instance().socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.RCVTIMEO = int(seconds * 1000)
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self.modality = self.ask("get_modality_config")
        (self.dialect,) = {MARKS[mark] for part in self.modality.values() for mark in MARKS if mark in part}

    def ask(self, endpoint, **data):
        return self.send(msgpack.packb({"endpoint": endpoint, "data": data}, default=self._encode))

    def send(self, message):
        self._socket.send(message)
        return msgpack.unpackb(self._socket.recv(), object_hook=self._decode)

    def _encode(self, array):
        if self.dialect == "nd":
            told = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape}
            return told | {b"data": array.tobytes()}
        file = io.BytesIO()
        np.save(file, array)
        return {"__ndarray_class__": True, "as_npy": file.getvalue()}

    def _decode(self, item):
        if self.dialect == "npy" and "__ndarray_class__" in item:
            return np.load(io.BytesIO(item["as_npy"]))
        if self.dialect == "nd" and item.get(b"nd"):
            return np.frombuffer(item[b"data"], item[b"type"]).reshape(item[b"shape"])
        return item


def observation(robots=2):
    numbers = np.random.default_rng(0)
    cameras = ("exterior_image_1", "wrist_image")
    return {
        "video": {name: np.zeros((robots, 1, 32, 32, 3), np.uint8) for name in cameras},
        "state": {
            "ee_pose": numbers.normal(size=(robots, 1, 9)).astype(np.float32),
            "grip": numbers.normal(size=(robots, 1, 1)).astype(np.float32),
        },
        "language": {"annotation.language.language_instruction": [["stack"]] * robots},
    }


def test_training_goes_on_where_it_was(trained, train, tmp_path):
    """Of two checkpoints the last stays; the same command with more steps resumes by itself, not exactly."""
    first, experiment = trained
    assert "{'loss': " in first.stdout
    assert first.stderr.rstrip().endswith("Training completed!")
    assert {each.name for each in experiment.glob("checkpoint-*")} == {"checkpoint-6"}
    names = {each.name for each in (experiment / "checkpoint-6").iterdir()}
    assert names == TRAINER_FILES | SERVED_FILES | {"wandb_config.json"}
    shutil.copytree(experiment, tmp_path / "out")
    assert "Resetting seed to 48" in train(7).stdout
    assert json.loads((tmp_path / "out/checkpoint-7/trainer_state.json").read_text())["global_step"] == 7


def test_a_checkpoint_says_all_that_serving_needs(trained, gr00t_v21):
    """The modality config with its enums by name, and each part's slice of the dataset's statistics."""
    folder = trained[1] / "checkpoint-6"
    config = json.loads((folder / "processor_config.json").read_text())["processor_kwargs"]["modality_configs"]
    assert config["new_embodiment"]["action"]["action_configs"][0]["rep"] == "ABSOLUTE"
    found = json.loads((folder / "statistics.json").read_text())["new_embodiment"]
    dataset = json.loads((gr00t_v21 / "meta/stats.json").read_text())
    assert found["action"]["grip"]["q99"] == dataset["action"]["q99"][9:10]
    assert found["state"]["ee_pose"]["mean"] == dataset["ee_pose"]["mean"]
    assert json.loads((folder / "embodiment_id.json").read_text())["new_embodiment"] == 10


def test_relative_statistics_are_written_once(train, gr00t_v21, modality_file):
    """A part that is in relative_stats.json stays as it is: another horizon is an IndexError."""
    path = gr00t_v21 / "meta" / "relative_stats.json"
    path.unlink(missing_ok=True)
    try:
        assert train(1, modality=modality_file("RELATIVE", 4)).returncode == 0
        assert np.shape(json.loads(path.read_text())["ee_pose"]["mean"]) == (4, 9)
        longer = train(2, modality=modality_file("RELATIVE", 8))
        assert (longer.returncode, "IndexError" in longer.stderr) == (1, True)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--resume"], "Unrecognized options: --resume"),
        (["--use-wandb", "True"], "Unrecognized arguments: True"),
        (["--save-steps", "often"], "--save-steps"),
    ],
)
def test_flags_are_read_as_tyro_reads_them(train, typed, said):
    done = train(1, *typed)
    assert (done.returncode, "╭" in done.stderr, said.lower() in done.stderr.lower()) == (2, True, True), done.stderr


@pytest.mark.parametrize(
    ("switches", "code", "said"),
    [
        ({"missing_module": "flash_attn_of_no_one"}, 1, "No module named 'flash_attn_of_no_one'"),
        ({"gated": True}, 1, "You are trying to access a gated repo"),
        ({"out_of_memory_at_step": 2}, 1, "torch.OutOfMemoryError: CUDA out of memory"),
        ({"disk_full_in_checkpoint": 3}, 1, "No space left on device"),
    ],
)
def test_training_fails_as_told(gr00t_checkout, train, switches, code, said):
    gr00t_checkout.tell(**switches)
    done = train(4)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_half_a_checkpoint_has_no_last_file(gr00t_checkout, train, tmp_path):
    gr00t_checkout.tell(kill_in_checkpoint=3)
    assert train(4).returncode == -signal.SIGKILL
    assert {each.name for each in (tmp_path / "out" / "checkpoint-3").iterdir()} == {"config.json", "model.safetensors"}
    gr00t_checkout.tell(kill_in_checkpoint=None)
    assert "trainer_state.json" in train(4).stderr  # what resumes is not whole


@pytest.mark.parametrize(("version", "dialect"), [("main", "nd"), ("n1.7", "npy"), ("n1.6", "npy")])
def test_a_checkpoint_is_served_in_the_dialect_of_its_version(gr00t_checkout, trained, serve, version, dialect):
    gr00t_checkout.become(version)
    tag = "NEW_EMBODIMENT" if version == "n1.6" else "new_embodiment"
    process, port = serve("--model-path", trained[1] / "checkpoint-6", "--embodiment-tag", tag, "--device", "cpu")
    client = Client(port)
    assert client.dialect == dialect
    assert client.ask("ping") == {"status": "ok", "message": "Server is running"}
    seen = observation()
    actions, info = client.ask("get_action", observation=seen, options=None)
    assert info == {}
    assert {name: (part.shape, part.dtype.str) for name, part in actions.items()} == {
        "ee_pose": ((2, 16, 9), "<f4"),
        "grip": ((2, 16, 1), "<f4"),
    }
    np.testing.assert_array_equal(actions["ee_pose"][:, :, 1:], np.repeat(seen["state"]["ee_pose"][..., 1:], 16, 1))
    np.testing.assert_allclose(actions["grip"][:, -1] - seen["state"]["grip"][:, 0], 0.015, atol=1e-6)
    wrong = observation()
    wrong["state"]["grip"] = wrong["state"]["grip"].astype(np.float64)
    texts = {"error": "State key 'grip' must be a numpy array of type np.float32. Got float64"}
    assert client.ask("get_action", observation=wrong) == texts
    del wrong["state"]["grip"]
    missing = "'grip'" if version == "n1.6" else "State key 'grip' must be in observation"
    assert client.ask("get_action", observation=wrong) == {"error": missing}
    assert client.ask("nope") == {"error": "Unknown endpoint: nope"}
    client.dialect = {"nd": "npy", "npy": "nd"}[dialect]
    other = client.ask("get_action", observation=seen)["error"]
    assert other == "Video key 'exterior_image_1' must be a numpy array. Got <class 'dict'>"
    assert client.ask("reset", options=None) == {}
    assert client.ask("kill") is None
    assert process.wait(SECONDS) == 0


def test_a_recording_is_replayed(serve, gr00t_v21, modality_file):
    """The recorded actions, without a checkpoint, on by the execution horizon a call."""
    typed = ["--dataset-path", gr00t_v21, "--modality-config-path", modality_file(), "--execution-horizon", "8"]
    _, port = serve(*typed)
    client = Client(port)
    first, info = client.ask("get_action", observation=observation(1))
    second, _ = client.ask("get_action", observation=observation(1))
    np.testing.assert_array_equal(first["ee_pose"][:, 8:], second["ee_pose"][:, :8])
    assert info == {"current_step": 0, "episode_length": 60, "episode_index": 0}


def test_serving_fails_as_told(gr00t_checkout, trained, serve, tmp_path):
    """Each kind of answer, for the call it is told for; a late answer comes when its file is there."""
    late, ready = tmp_path / "late", tmp_path / "ready"
    kinds = ["nan", "shape", "dtype", "missing_part", "error", "out_of_memory", "silence", "death"]
    answers = [{"call": call, "kind": kind, "until": late} for call, kind in enumerate(kinds, 1)]
    gr00t_checkout.tell(answers=answers, wait_for=ready)
    process, port = serve("--model-path", trained[1] / "checkpoint-6", "--device", "cpu")
    with pytest.raises(zmq.Again):
        Client(port, 0.1)  # nothing is bound yet
    ready.touch()
    client, seen = Client(port), observation()
    replies = [client.ask("get_action", observation=seen) for _ in kinds[:6]]
    assert np.isnan(replies[0][0]["ee_pose"][..., 0]).all()
    assert replies[1][0]["ee_pose"].shape == (2, 15, 9)
    assert replies[2][0]["ee_pose"].dtype == np.float64
    assert list(replies[3][0]) == ["grip"]
    assert "device-side assert" in replies[4]["error"]
    assert "out of memory" in replies[5]["error"]
    client._socket.RCVTIMEO = 100
    with pytest.raises(zmq.Again):
        client.ask("get_action", observation=seen)
    late.touch()
    client = Client(port)
    with contextlib.suppress(zmq.Again):
        client._socket.RCVTIMEO = 100
        client.ask("get_action", observation=seen)
    assert process.wait(SECONDS) == -signal.SIGKILL
