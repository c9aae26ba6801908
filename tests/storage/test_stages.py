"""The stages with everything in a bucket: the whole way of the data, nothing of it on this machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import positronic
from positronic import keys
from positronic.errors import PositronicError
from positronic.hardware.factory import open_robot
from positronic.raw.dataset import open_dataset
from positronic.rollout.config import RemotePolicyConfig
from positronic.rollout.policies import LocalPolicy
from positronic.rollout.remote import RemotePolicy
from positronic.stages import collect, convert, infer, train
from positronic.storage.folder import folder
from positronic.storage.outgoing import STARTED_FILE
from positronic.training.checkpoints import find_checkpoint, list_checkpoints

PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
ROOT = Path(__file__).parents[2]
ACT = [
    "vision_backbone=resnet_small",
    "chunk_size=4",
    "n_action_steps=4",
    "dim_model=32",
    "n_heads=2",
    "dim_feedforward=32",
]
ACT += ["n_encoder_layers=1", "n_decoder_layers=1", "use_vae=false"]
BAKE = ["codec=ee", "modality.image_size=[32,32]", "fps=5"]
TRAIN = [
    *BAKE[:2],
    "modality.action_horizon_sec=0.2",
    *(f"vendor.policy.{value}" for value in ACT),
    "batch_size=2",
    "device=cpu",
    "num_train_steps=2",
    "save_freq=1",
]


@pytest.fixture(scope="module")
def compose(shared_bucket):
    """A config with everything under ``s3://<bucket>/lab``, of a machine with a cache of its own."""

    def make(stage, *overrides, url=None, machine="a"):
        where = [f"paths.root={shared_bucket.uri('lab')}", f"storage.endpoint_url={url or shared_bucket.url}"]
        where += [f"storage.cache_dir={shared_bucket.cache / machine}"]
        if stage in ("convert", "train"):
            where += ["dataset=local", f"dataset.path={shared_bucket.uri('lab/raw')}"]
        last = {each.partition("=")[0]: each for each in (*where, *overrides)}
        return positronic.compose([f"stage={stage}", *last.values()])

    return make


@pytest.fixture(scope="module")
def baked(shared_bucket, compose):
    """A baked dataset in the bucket, made by two processes. Returns its folder there."""
    shared_bucket.put_folder(PUBLISHED, "lab/raw")
    convert.run(compose("convert", *BAKE, "num_workers=2"))
    return folder(shared_bucket.uri("lab/baked/raw/lerobot/ee/v3.0"), shared_bucket.config())


@pytest.fixture(scope="module")
def trained(shared_bucket, baked, compose):
    """Two checkpoints in the bucket, made from what is baked there. Returns the experiment's folder."""
    train.run(compose("train", *TRAIN))
    return folder(shared_bucket.uri("lab/checkpoints/lerobot/lerobot_ee"), shared_bucket.config())


def test_an_interrupted_convert_to_a_bucket_goes_on(shared_bucket, compose, capsys):
    """What was baked before the episode that stopped it is not baked again; afterwards nothing is left here."""
    shared_bucket.put_folder(PUBLISHED, "broken/raw")
    grip = next(path for path in sorted(PUBLISHED.rglob("grip.parquet")) if path.parent.name.endswith("2"))
    shared_bucket.put_key(f"broken/raw/{grip.relative_to(PUBLISHED)}", b"not parquet")
    what = [f"dataset.path={shared_bucket.uri('broken/raw')}", f"paths.root={shared_bucket.uri('broken')}", *BAKE]
    with pytest.raises(PositronicError, match="1 of 3 episodes are bad"):
        convert.run(compose("convert", *what, "num_workers=1", machine="broken"))
    convert.run(compose("convert", *what, "num_workers=1", "on_bad_episode=skip", machine="broken"))
    printed = capsys.readouterr().out
    assert re.search(r"from an interrupted bake\W+2 episodes", printed)
    assert not list((shared_bucket.cache / "broken" / "outgoing").glob("*/*"))


def test_appending_to_a_bucket_is_refused(shared_bucket, compose):
    """Nothing there can be replaced in one step."""
    with pytest.raises(PositronicError, match=r"append=true replaces a dataset in one step.*local copy"):
        convert.run(compose("convert", *BAKE, "append=true"))


def test_convert_reads_and_writes_a_bucket(shared_bucket, compose, baked, tmp_path):
    """What is baked there from there is, byte for byte, what is baked here from here."""
    local = tmp_path / "baked"
    convert.run(
        positronic.compose(
            ["stage=convert", f"dataset.path={PUBLISHED}", f"output_dir={local}", *BAKE, "num_workers=1"]
        )
    )
    here = {path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    prefix = f"{baked.uri.key}/"
    there = {
        name.removeprefix(prefix): data for name, data in shared_bucket.objects().items() if name.startswith(prefix)
    }
    assert here == there
    with pytest.raises(PositronicError, match="v3.0 exists already"):
        convert.run(compose("convert", *BAKE, "num_workers=1"))


def test_shards_of_a_bake_in_a_bucket_are_joined_there(shared_bucket, compose, baked, tmp_path):
    """They lie in a folder that was said; episodes come from the bucket, and the dataset goes there."""
    output = f"output_dir={shared_bucket.uri('lab/sharded')}"
    what = [*BAKE, "num_workers=1", output, "shards=2"]
    with pytest.raises(PositronicError, match="shards_dir=<folder>"):
        convert.run(compose("convert", *what, "shard=1"))
    for machine in ("1", "2"):
        convert.run(compose("convert", *what, f"shards_dir={tmp_path}", f"shard={machine}", machine=machine))
    convert.run(compose("convert", *what, f"shards_dir={tmp_path}", "join=true"))
    objects = shared_bucket.objects()

    def under(name):
        prefix = f"{shared_bucket.uri(name).partition('//')[2].partition('/')[2]}/"
        return {key.removeprefix(prefix): data for key, data in objects.items() if key.startswith(prefix)}

    assert under("lab/sharded") == under("lab/baked/raw/lerobot/ee/v3.0")
    with pytest.raises(PositronicError, match="sharded exists already"):
        convert.run(compose("convert", *what, f"shards_dir={tmp_path}", "shard=1"))


def test_train_says_how_to_make_a_dataset_that_is_not_there(compose):
    """With the command, as for a local one."""
    with pytest.raises(PositronicError, match=r"nothing at s3://.*Make it with:\n  python run.py stage=convert"):
        train.run(compose("train", *TRAIN, "dataset.path=s3://lab-of-others/raw/other"))


def test_train_reads_and_writes_a_bucket(shared_bucket, compose, trained):
    """Checkpoints, metrics and config are there; the experiment is taken; nothing names this machine's copies."""
    assert {"000001", "000002"} <= {checkpoint.id for checkpoint in list_checkpoints(trained)}
    names = {file.name for file in trained.listing().files if "/" not in file.name}
    assert names == {"config.json", "loss.png", "metrics.jsonl", STARTED_FILE}
    info = find_checkpoint(trained, 2).info()
    assert info["training"]["input_path"] == shared_bucket.uri("lab/baked/raw/lerobot/ee/v3.0")
    assert str(shared_bucket.cache) not in json.dumps(info)
    with pytest.raises(PositronicError, match="lerobot_ee exists already. To continue it, type:"):
        train.run(compose("train", *TRAIN))


def test_python_opens_what_is_in_a_bucket(shared_bucket, baked, trained):
    """Recording, baked dataset and checkpoint by their URIs."""
    storage = shared_bucket.config()
    moment = positronic.open_raw(shared_bucket.uri("lab/raw"), storage=storage)[0].at(1.0)
    data = positronic.open_baked(str(baked), storage)
    policy = positronic.load_policy(str(trained), 1, storage=storage)
    steps = policy.infer(moment | {"task": "stack"})
    assert len(data) == data.manifest.frames == 60
    assert len(steps) == len(data.recipe.codec.decode(data.vectors["action"][:1])) == 1
    assert policy.meta["checkpoint_id"] == "000001"


def test_another_machine_trains_on(compose, trained):
    """From the last checkpoint; what it adds is beside the others."""
    train.run(compose("train", *TRAIN, "num_train_steps=3", "resume=true", machine="b"))
    assert [checkpoint.id for checkpoint in list_checkpoints(trained)] == ["000001", "000002", "000003"]
    rows = [json.loads(line) for line in trained.read_bytes("metrics.jsonl").splitlines()]
    assert rows[-1]["step"] == 3


def test_old_checkpoints_go_from_a_bucket(shared_bucket, compose, baked):
    """Not before a newer one is there whole; a machine that goes on with one keeps to it, and leaves no half of one."""
    keep = ["keep_last=1", "exp_name=pruned"]
    train.run(compose("train", *TRAIN, *keep, "num_train_steps=3"))
    there = folder(shared_bucket.uri("lab/checkpoints/lerobot/pruned"), shared_bucket.config())
    assert [checkpoint.id for checkpoint in list_checkpoints(there)] == ["000003"]
    train.run(compose("train", *TRAIN, *keep, "num_train_steps=4", "resume=true", machine="b"))
    names = {file.name.split("/")[1] for file in there.listing().files if file.name.startswith("checkpoints/")}
    assert names == {"000004"}
    find_checkpoint(there).require_intact()


def test_a_policy_is_loaded_from_a_bucket(compose, proxy, trained):
    """Of the checkpoint what a model needs, and of others nothing."""
    typed = ["policy=local", f"policy.checkpoints_dir={trained}", "policy.checkpoint=2"]
    policy = LocalPolicy(compose("infer", *typed, url=proxy.url, machine="c").policy)
    assert policy.meta[keys.META_CHECKPOINT_ID] == "000002"
    assert policy.meta[keys.META_EXPERIMENT] == "lerobot_ee"
    assert policy.meta[keys.META_CHECKPOINT_PATH] == f"{trained}/checkpoints/000002"
    read = {request.path for request in proxy.requests if "list-type" not in request.path}
    assert any("000002" in path for path in read)
    assert not any("training_state" in path or "000001" in path for path in read)


def test_a_server_offers_what_is_in_a_bucket(shared_bucket, compose, trained, tmp_path):
    """Through its own processes, one of them forked: the checkpoints that there are, and a session on one."""
    command = [sys.executable, ROOT / "run.py", "stage=serve", f"checkpoints_dir={trained}", "server.host=127.0.0.1"]
    command += ["server.port=0", "server.device=cpu", f"storage.endpoint_url={shared_bucket.url}"]
    command += [f"storage.cache_dir={shared_bucket.cache / 'd'}", f"hydra.run.dir={tmp_path / 'run'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        try:
            line = next(line for line in server.stdout if "http://" in line)
            host, port = re.search(r"http://([\d.]+):(\d+)", line).groups()
            policy = open_policy_at(host, int(port))
            assert policy.meta[keys.META_CHECKPOINT_PATH].startswith("lerobot_ee/checkpoints/")
            policy.close()
        finally:
            server.terminate()


def open_policy_at(host, port):
    return RemotePolicy(RemotePolicyConfig("remote", host=host, port=port, connect_timeout_sec=60))


def test_collect_and_infer_record_into_a_bucket(shared_bucket, compose):
    """Demonstrations, then rollouts with their report, each a raw dataset there."""
    small, demo = ["hardware.image_size=[32,48]"], shared_bucket.uri("lab/demo")
    collect.run(compose("collect", *small, "num_episodes=1", "num_workers=1", f"output_dir={demo}"))
    recorded = open_dataset(demo, storage=shared_bucket.config())
    assert [episode.statics[keys.EVAL_SEED] for episode in recorded] == [100000]
    short = ["policy=scripted", "driver.simulation_time=0.2", "driver.save_videos=0"]
    infer.run(compose("infer", *small, *short))
    rollouts = folder(shared_bucket.uri("lab/rollouts/scripted"), shared_bucket.config())
    assert len(open_dataset(str(rollouts), storage=shared_bucket.config())) == 1
    assert rollouts.read_bytes("report.json")
    more = compose("infer", *small, *short, "driver.num_episodes=2", f"output_dir={rollouts}", "resume=true")
    assert infer.run(more).report["earlier"] == 1
    assert len(open_dataset(str(rollouts), storage=shared_bucket.config())) == 2
    with pytest.raises(PositronicError, match=r"(?s)lab/demo exists already.*resume=true"):
        collect.run(compose("collect", *small, f"output_dir={demo}"))
    collect.run(compose("collect", *small, "num_episodes=2", "num_workers=1", f"output_dir={demo}", "resume=true"))
    assert [episode.id for episode in open_dataset(demo, storage=shared_bucket.config())] == [0, 1]


def test_a_recording_in_a_bucket_plays_as_a_robot(compose, baked):
    """``hardware.path`` may be a URI as well."""
    path = compose("convert").dataset.path
    robot = open_robot(compose("infer", "hardware=replay", f"hardware.path={path}").hardware)
    robot.reset(0)
    assert robot.observe()[keys.JOINT_POSITION].shape == (7,)
    robot.close()
