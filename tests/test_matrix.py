"""Every pair of vendor and codec that trains, and every policy, from a recording to the robot, at toy size."""

import json
import random
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from shell import Shell, free_port
from toy_language import OTHERS, small, write_smolvlm

import positronic
from positronic import keys
from positronic.bake.frame_source import in_memory
from positronic.bake.manifest import read_manifest
from positronic.errors import PositronicError
from positronic.stages.preparation import prepare
from positronic.training.agreement import agreed_recipe
from positronic.training.checkpoints import CHECKPOINTS, find_checkpoint
from positronic.training.validation import Validation
from positronic.vendors import registry

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(600)]  # the first one starts all processes

CONF = Path(__file__).parents[1] / "conf"
ALIASES = ("eepose_absolute", "joints_absolute", "from_checkpoint")
PAIRS = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("modality/*/*.yaml"))
    if path.stem[0] != "_" and path.stem not in (*ALIASES, "droid")
]
STEPS, SAVE_FREQ = 20, 5
LEARNS = {  # nets this small do, with these
    "lerobot": ["learning_rate=3e-3", "batch_size=4"],
    "gr00t": ["learning_rate=1e-3", "batch_size=8"],
    "openpi": ["learning_rate=3e-3", "batch_size=4"],
}
TINY = ["+debug=tiny", "modality.image_size=[32,32]"]
TRAIN = ["log_freq=1", f"save_freq={SAVE_FREQ}", "lr_schedule=constant", "warmup_fraction=0", "device=cpu"]
STEP, SAVE = "positronic.training.loop:Learner.step", "positronic.training.loop:Learner.save_state"
DECODERS = ["num_workers=2", "cache_gb=0", "frame_cache=none"]
BY_DECODERS = {("gr00t", "ee_rot6d_joints"), ("lerobot", "ee"), ("openpi", "ee")}
POLICIES = ("diffusion", "smolvla", *OTHERS, "pi05_whole")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two demonstrations in the simulator."""
    folder = tmp_path_factory.mktemp("raw")
    run("stage=collect", "+debug=tiny", f"output_dir={folder}")
    return folder


@pytest.fixture(scope="module")
def baked(raw, tmp_path_factory):
    """``baked(vendor, codec)``: what one types to train on the demonstrations."""
    made = {}

    def typed(vendor, codec):
        what = [f"vendor={vendor}", f"codec={codec}", *TINY]
        if (vendor, codec) not in made:
            made[vendor, codec] = tmp_path_factory.mktemp("baked") / codec
            commanded = ["+dataset.aliases={robot_commands.joints: robot_state.q}"] if codec.endswith("_cmd") else []
            where = [f"dataset.path={raw}", *commanded, f"output_dir={made[vendor, codec]}"]
            run("stage=convert", *what, "dataset=local", *where)
        return ["stage=train", *what, *TRAIN, *LEARNS[vendor], f"input_path={made[vendor, codec]}"]

    return typed


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """``served(checkpoint)``: what one types to be answered by it; one server has those of all tests."""
    shell, port = Shell(tmp_path_factory.mktemp("served")), free_port()
    places = shell.folder / CHECKPOINTS
    places.mkdir()
    with ExitStack() as stack:

        def add(checkpoint):
            number = len(list(places.iterdir())) + 1
            shutil.copytree(checkpoint.path, places / f"{number:06d}")
            if number == 1:
                where = f"checkpoints_dir={shell.folder} server.host=127.0.0.1 server.port={port}"
                stack.enter_context(shell.started(f"python run.py stage=serve {where}"))
            return ["policy=remote", f"policy.port={port}", f"policy.checkpoint={number}"]

        yield add


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_a_pair_goes_all_the_way(pair, baked, kill_soon, served, tmp_path):
    """Converted, trained (the loss falls at the same noise), killed, resumed to the same losses and weights, served,
    and played in the simulator."""
    train = [*baked(*pair), f"output_dir={tmp_path}"]
    learns(train, tmp_path)
    is_resumed(train, kill_soon, tmp_path, [DECODERS, []] if pair in BY_DECODERS else [[]])
    is_played(served(find_checkpoint(tmp_path / "whole")), tmp_path)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_goes_all_the_way(policy, baked, kill_soon, served, tmp_path, monkeypatch):
    """The same for what is not its vendor's default; the sizes of π0 cannot be typed, so it stays in this process."""
    monkeypatch.chdir(tmp_path)
    fields = {} if policy == "pi05_whole" else fields_of(policy, tmp_path)
    train = [*baked("openpi" if policy == "pi05_whole" else "lerobot", "ee"), f"output_dir={tmp_path}"]
    train += [f"vendor.policy.{name}={spoken(value)}" for name, value in fields.items()]
    train += ["modality.config_name=pi05_positronic"] if policy == "pi05_whole" else []
    with small(fields):
        learns(train, tmp_path)
        if policy != "pi0":
            is_resumed(train, kill_soon, tmp_path, [[]] if policy in OTHERS else [DECODERS, []])
            is_played(served(find_checkpoint(tmp_path / "whole")), tmp_path)
        else:
            is_played(["policy=local", f"policy.checkpoints_dir={tmp_path / 'whole'}"], tmp_path)


def fields_of(policy, folder):
    """``vendor.policy`` of a small one of LeRobot's."""
    if policy in OTHERS:
        return OTHERS[policy](folder, 32)
    if policy == "diffusion":
        return {"type": policy}
    sizes = {"num_vlm_layers": 2, "chunk_size": 8, "n_action_steps": 8, "num_steps": 2, "tokenizer_max_length": 24}
    language = {"vlm_model_name": str(write_smolvlm(folder / "smolvlm")), "load_vlm_weights": False}
    return {"type": policy, "resize_imgs_with_padding": [64, 64]} | sizes | language


def spoken(value):
    """As it is typed."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{spoken(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spoken, value)) + "]"
    return "null" if value is None else str(value)


def learns(train, folder):
    """Into ``whole``, without a stop; over the whole dataset, the loss at the same noise falls."""
    run(*train, "exp_name=whole", f"num_train_steps={STEPS}")
    before, after = losses_at_the_same_noise(positronic.compose(train), folder / "whole")
    assert after < before


def is_resumed(train, kill_soon, folder, ways):
    """Into ``halves``, killed once for each of ``ways``, what one types beside; then it is ``whole`` bit for bit."""
    typed = [*train, "exp_name=halves", f"num_train_steps={STEPS}", "resume=true"]
    last = 0  # the last step that may have been saved
    for way in ways:
        first, rest = (SAVE_FREQ + 1 if not last else 1), STEPS - last
        moments = [(STEP, step) for step in range(first, rest + 1)]
        moments += [(SAVE, save) for save in range(2, rest // SAVE_FREQ + 1)]
        where, call = random.choice(moments)
        print(f"killed at call {call} of {where}, {way}")
        processes = kill_soon(where, call, *typed, *way)
        assert (processes >= 3) == (way == DECODERS)
        last = find_checkpoint(folder / "halves").step
    run(*typed)
    whole, halves = folder / "whole", folder / "halves"
    assert losses(halves) == losses(whole)
    assert weights(halves) == weights(whole)


def is_played(policy, folder):
    """In the simulator, by ``policy``. One that has learnt so little may command a joint beyond its limits: the robot
    refuses that, and it is asked again."""
    for attempt in range(10):
        rollouts = folder / f"rollouts{attempt}"
        try:
            run("stage=infer", "+debug=tiny", *policy, f"output_dir={rollouts}")
        except PositronicError as error:
            if "Nothing of this chunk was played" not in str(error):
                raise
        else:
            break
    assert [len(episode[keys.TARGET_GRIP].values) > 0 for episode in positronic.open_raw(rollouts)] == [True]


def run(*typed):
    return positronic.run(positronic.compose(list(typed)))


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


def weights(folder):
    return (find_checkpoint(folder).pretrained_model / "model.safetensors").read_bytes()


def losses_at_the_same_noise(config, experiment):
    """Over the whole dataset: of the weights that a run begins with, and of an experiment's last checkpoint."""
    path = Path(config.input_path)
    recipe = agreed_recipe(config.codec, config.modality, read_manifest(path), config.input_path, "")
    job = prepare(config, recipe, path)
    trainable, dataset = registry.backend_of(config.vendor.name).trainable(job), job.sides.training
    validation = Validation(trainable, dataset, in_memory(dataset), job.settings)
    before = validation.loss()
    trainable.load(find_checkpoint(experiment).pretrained_model)
    return before, validation.loss()
