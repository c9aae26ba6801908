"""The stand-in for openpi behaves as the real one was seen to: options, files, exit codes and wire."""

import json
import os
import signal
import socket
import subprocess
import urllib.request

import msgpack
import numpy as np
import pytest
from standins import Checkout
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

SECONDS = 60  # a machine under load
STEPS = ["--num-train-steps", "4", "--save-interval", "2", "--log-interval", "1", "--batch-size", "8"]

# What a launcher does: registers a config in memory and calls upstream's own mains.
LAUNCH = """
import dataclasses, logging, pathlib, sys
import openpi.training.config as config
sys.path.insert(0, str(pathlib.Path(config.__file__).parents[3]))
import openpi.policies.libero_policy as libero_policy
import openpi.transforms as transforms

COLUMNS = {"observation/image": "observation.images.side", "observation/wrist_image": "observation.images.left"}
COLUMNS |= {"observation/state": "observation.state", "actions": "action", "prompt": "prompt"}
MASK = transforms.make_bool_mask(7, -1)

@dataclasses.dataclass(frozen=True)
class Outputs(transforms.DataTransformFn):
    def __call__(self, data):
        return {"actions": data["actions"][:, :8]}

@dataclasses.dataclass(frozen=True)
class Data(config.DataConfigFactory):
    def create(self, assets_dirs, model_config):
        inputs = [libero_policy.LiberoInputs(model_config.model_type), transforms.DeltaActions(MASK)]
        return dataclasses.replace(
            self.create_base_config(assets_dirs, model_config),
            repack_transforms=transforms.Group(inputs=[transforms.RepackTransform(COLUMNS)]),
            data_transforms=transforms.Group(inputs=inputs, outputs=[transforms.AbsoluteActions(MASK), Outputs()]),
            model_transforms=config.ModelTransformFactory()(model_config),
            action_sequence_keys=("action",),
            prompt_from_task=True,
        )

if __name__ == "__main__":
    stage, assets, *typed = sys.argv[1:]
    config._CONFIGS_DICT["test"] = config.TrainConfig(
        name="test",
        model=config.pi0_config.Pi0Config(pi05=True),
        data=Data(repo_id="lerobot"),
        assets_base_dir=assets,
        num_workers=0,
        wandb_enabled=False,
        policy_metadata={"codec": "ee"},
    )
    if stage == "stats":
        import scripts.compute_norm_stats
        scripts.compute_norm_stats.main("test")
    elif stage == "train":
        import scripts.train
        sys.argv = ["train", "test", *typed]
        scripts.train.main(config.cli())
    else:
        import tyro
        import scripts.serve_policy
        logging.basicConfig(level=logging.INFO, force=True)
        sys.argv = ["serve", *typed]
        scripts.serve_policy.main(tyro.cli(scripts.serve_policy.Args))
"""


class Bench:
    """A checkout with the launcher, a tokenizer's file and a dataset."""

    def __init__(self, checkout, folder, dataset):
        self.checkout, self.folder = checkout, folder
        self.assets = dataset / "assets"
        tokenizer = folder / "data" / "big_vision" / "paligemma_tokenizer.model"
        tokenizer.parent.mkdir(parents=True)
        tokenizer.write_bytes(b"a tokenizer")
        (folder / "launch.py").write_text(LAUNCH)
        said = {"HF_LEROBOT_HOME": dataset.parent, "HF_HUB_OFFLINE": "1", "OPENPI_DATA_HOME": folder / "data"}
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment |= {name: str(value) for name, value in said.items()}

    def start(self, *typed, **more):
        command = [self.checkout.python, self.folder / "launch.py", *typed]
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True, **more)

    def run(self, *typed):
        process = self.start(*typed)
        out, err = process.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(typed, process.returncode, out, err)

    def train(self, *typed, assets=None):
        where = ["--exp-name", "run", "--checkpoint-base-dir", str(self.folder / "checkpoints")]
        return self.run("train", assets or self.assets, *where, *STEPS, *typed)

    @property
    def experiment(self):
        return self.folder / "checkpoints" / "test" / "run"


@pytest.fixture(scope="module")
def trained(openpi_v21, tmp_path_factory):
    """Statistics and four steps; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("trained")
    bench = Bench(Checkout("openpi", folder / "openpi", "openpi"), folder, openpi_v21)
    bench.assets = folder / "assets"
    stats = bench.run("stats", bench.assets)
    assert stats.returncode == 0, stats.stderr
    done = bench.train()
    assert done.returncode == 0, done.stderr
    return bench, done


@pytest.fixture
def bench(trained, openpi_checkout, tmp_path, openpi_v21):
    """A new checkout and folder, with the statistics of ``trained``."""
    made = Bench(openpi_checkout, tmp_path, openpi_v21)
    made.assets = trained[0].assets
    return made


def test_statistics_leave_out_what_is_over_after_the_last_whole_batch(trained, openpi_v21):
    """Of 180 frames in batches of 32, the first 160; of 8 numbers, since nothing pads them."""
    found = json.loads((trained[0].assets / "test" / "lerobot" / "norm_stats.json").read_text())["norm_stats"]
    whole = json.loads((openpi_v21 / "meta" / "stats.json").read_text())["observation.state"]
    assert np.shape(found["actions"]["q99"]) == np.shape(found["state"]["mean"]) == (8,)
    assert 1e-4 < np.abs(np.subtract(found["state"]["mean"], whole["mean"])).max() < 0.1


def test_an_experiment_holds_the_newest_checkpoint(trained):
    bench, done = trained
    assert "Step 0: grad_norm=" in done.stdout
    assert "Waiting for checkpoint manager to finish" in done.stderr
    assert "Finished saving checkpoint" in done.stderr
    assert [each.name for each in bench.experiment.iterdir()] == ["3"]
    names = {each.name for each in (bench.experiment / "3").iterdir()}
    assert names == {"params", "train_state", "assets", "_CHECKPOINT_METADATA"}


def test_what_is_there_must_be_asked_for(bench):
    """A failed start leaves an empty folder, which blocks the next; --resume gets by it, and goes on at the end."""
    assert "Normalization stats not found" in bench.train(assets=bench.folder / "nowhere").stderr
    blocked = bench.train()
    assert (blocked.returncode, "FileExistsError" in blocked.stderr) == (1, True)
    assert list(bench.experiment.iterdir()) == []
    assert "Aborting resume" in bench.train("--resume").stderr
    further = bench.train("--resume", "--num-train-steps", "6")
    assert further.returncode == 0, further.stderr
    assert "Step 4: " in further.stdout
    assert "Step 3: " not in further.stdout


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["--save-freq", "3"], 2, "Unrecognized options: --save-freq"),
        (["--lr-schedule.decay-steps", "100"], 1, "got decay_steps=-900"),
        (["--batch-size", "256"], 1, "Local batch size (256) is larger than the dataset size (180)"),
        (["--wandb-enabled"], 1, "api_key not configured"),
    ],
)
def test_training_refuses_what_the_real_one_refuses(bench, typed, code, said):
    bench.environment = {name: each for name, each in bench.environment.items() if not name.startswith("WANDB")}
    done = bench.train(*typed)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_training_fails_as_told(bench):
    bench.checkout.tell(disk_full_in_checkpoint=2)
    full = bench.train()
    assert (full.returncode, "No space left on device" in full.stderr) == (1, True)
    assert [each.name for each in bench.experiment.iterdir()] == ["2.orbax-checkpoint-tmp-0"]
    bench.checkout.tell(disk_full_in_checkpoint=None, out_of_memory_at_step=1)
    assert "RESOURCE_EXHAUSTED: Out of memory" in bench.train("--overwrite").stderr


def test_workers_outlive_their_parent_and_not_its_group(bench, ends, tmp_path):
    """SIGTERM to the process alone leaves the loader's workers."""
    bench.checkout.tell(pause_at_step=[1, tmp_path / "never"])
    typed = ["--exp-name", "run", "--checkpoint-base-dir", str(tmp_path / "checkpoints"), *STEPS, "--num-workers", "1"]
    process = bench.start("train", bench.assets, *typed, stderr=subprocess.DEVNULL)
    assert "Step 0: " in next(line for line in process.stdout if line.strip())
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    (worker,) = (child for child in children if is_worker(child))
    try:
        process.terminate()
        assert process.wait(SECONDS) == -signal.SIGTERM
        os.kill(worker, 0)  # is there still
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert all(ends(child) for child in children)


def is_worker(pid):
    """Beside a loader's worker there is the tracker of its resources, which ends with its parent."""
    with open(f"/proc/{pid}/cmdline") as file:
        return "spawn_main" in file.read()


def pack(value):
    return msgpack.packb(
        value,
        default=lambda each: {
            b"__ndarray__": True,
            b"data": each.tobytes(),
            b"dtype": each.dtype.str,
            b"shape": each.shape,
        },
    )


def unpack(frame):
    def array(item):
        if b"__ndarray__" not in item:
            return item
        return np.frombuffer(item[b"data"], item[b"dtype"]).reshape(item[b"shape"])

    return msgpack.unpackb(frame, object_hook=array)


@pytest.fixture
def serve(trained, bench):
    """``serve(**switches)``: the port of a server of the trained checkpoint that listens, and its process."""
    processes = []

    def start(**switches):
        bench.checkout.tell(**switches)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        typed = ["--port", str(port), "policy:checkpoint", "--policy.config", "test"]
        typed += ["--policy.dir", str(trained[0].experiment / "3")]
        processes.append(bench.start("serve", "/nowhere", *typed, stdout=subprocess.DEVNULL))
        log = []
        for line in processes[-1].stderr:
            log.append(line)
            if "server listening on" in line:
                return port, processes[-1]
        raise AssertionError("".join(log))

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def observation(state):
    images = {f"observation/{name}": np.zeros((224, 224, 3), np.uint8) for name in ("image", "wrist_image")}
    return images | {"observation/state": np.asarray(state, np.float32), "prompt": "stack"}


def test_a_checkpoint_is_served(trained, serve):
    """Metadata first; chunks from the 1st to the 99th percentile beyond the state; bad input is let through or kills
    the connection."""
    port, _ = serve()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as reply:
        assert (reply.status, reply.read()) == (200, b"OK\n")
    stats = json.loads((trained[0].assets / "test/lerobot/norm_stats.json").read_text())["norm_stats"]["actions"]
    state = np.linspace(0, 0.7, 8)
    with connect(f"ws://127.0.0.1:{port}/any", compression=None) as socket_:
        assert unpack(socket_.recv()) == {"codec": "ee"}
        socket_.send(pack(observation(state)))
        first = unpack(socket_.recv())
        assert (first["actions"].shape, first["actions"].dtype) == ((50, 8), np.float64)
        assert set(first) == {"actions", "policy_timing", "server_timing"}
        beyond = state * [1, 1, 1, 1, 1, 1, 1, 0]
        np.testing.assert_allclose(first["actions"][0], np.add(stats["q01"], beyond), atol=1e-5)
        np.testing.assert_allclose(first["actions"][-1], np.add(stats["q99"], beyond), atol=1e-5)
        socket_.send(pack(observation(np.full(8, np.nan))))
        second = unpack(socket_.recv())
        assert np.isnan(second["actions"][:, :7]).all()
        assert "prev_total_ms" in second["server_timing"]
        socket_.send(pack({"prompt": "stack"}))
        assert "KeyError: 'observation/image'" in socket_.recv()
        with pytest.raises(ConnectionClosedError, match="1011"):
            socket_.recv()


def test_serving_fails_as_told(serve, tmp_path):
    late = tmp_path / "late"
    kinds = ["nan", "shape", "dtype", "missing", "garbage", "silence", "error", "death"]
    port, process = serve(answers=[{"call": n, "kind": kind, "until": str(late)} for n, kind in enumerate(kinds, 1)])

    def ask(socket_):
        socket_.send(pack(observation(np.zeros(8))))
        return socket_.recv(timeout=SECONDS)

    with connect(f"ws://127.0.0.1:{port}", compression=None, ping_interval=None) as socket_:
        socket_.recv()
        replies = [unpack(ask(socket_)) for _ in kinds[:4]]
        assert np.isnan(replies[0]["actions"][:, 0]).all()
        assert replies[1]["actions"].shape == (49, 8)
        assert replies[2]["actions"].dtype == np.float32
        assert "actions" not in replies[3]
        with pytest.raises(msgpack.FormatError):
            unpack(ask(socket_))
        socket_.send(pack(observation(np.zeros(8))))
        with pytest.raises(TimeoutError):
            socket_.recv(timeout=0.1)
        late.touch()
        assert unpack(socket_.recv(timeout=SECONDS))["actions"].shape == (50, 8)
        assert "ValueError: operands could not be broadcast" in ask(socket_)
    with connect(f"ws://127.0.0.1:{port}", compression=None) as socket_:
        socket_.recv()
        with pytest.raises(ConnectionClosedError):
            ask(socket_)
    assert process.wait(SECONDS) == -signal.SIGKILL
