"""Every pair of vendor and codec that trains, from a recording to the robot, at toy size."""

import json
from pathlib import Path

import pytest

import positronic
from positronic.bake.frame_source import in_memory
from positronic.bake.reader import open_baked
from positronic.stages.preparation import prepare
from positronic.training.checkpoints import find_checkpoint
from positronic.training.validation import Validation
from positronic.vendors import registry

pytestmark = pytest.mark.usefixtures("one_thread")

CONF = Path(__file__).parents[1] / "conf"
ALIASES = ("eepose_absolute", "joints_absolute", "from_checkpoint")
PAIRS = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("modality/*/*.yaml"))
    if path.stem[0] != "_" and path.stem not in (*ALIASES, "droid")
]
STEPS, STOPPED_AT = 20, 10
LEARNS = {  # nets this small do, with these
    "lerobot": ["learning_rate=3e-3", "batch_size=4"],
    "gr00t": ["learning_rate=1e-3", "batch_size=8"],
    "openpi": ["learning_rate=3e-3", "batch_size=4"],
}
TINY = ["+debug=tiny", "modality.image_size=[32,32]"]
TRAIN = ["log_freq=1", "save_freq=10", "lr_schedule=constant", "warmup_fraction=0", "device=cpu"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two demonstrations in the simulator."""
    folder = tmp_path_factory.mktemp("raw")
    positronic.run(positronic.compose(["stage=collect", "+debug=tiny", f"output_dir={folder}"]))
    return folder


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_a_pair_goes_all_the_way(pair, raw, tmp_path):
    """Converted, trained (the loss falls at the same noise), stopped, resumed to the same losses, and played."""
    vendor, codec = pair
    typed, baked = [f"vendor={vendor}", f"codec={codec}", *TINY], tmp_path / "baked"
    commanded = ["+dataset.aliases={robot_commands.joints: robot_state.q}"] if codec.endswith("_cmd") else []
    run("stage=convert", *typed, "dataset=local", f"dataset.path={raw}", *commanded, f"output_dir={baked}")
    train = [
        "stage=train",
        *typed,
        *TRAIN,
        *LEARNS[vendor],
        f"input_path={baked}",
        f"output_dir={tmp_path}",
    ]
    run(*train, "exp_name=whole", f"num_train_steps={STEPS}")
    run(*train, "exp_name=halves", f"num_train_steps={STOPPED_AT}")
    run(*train, "exp_name=halves", f"num_train_steps={STEPS}", "resume=true")
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")

    config = positronic.compose([*train, "exp_name=whole"])
    before, after = (loss_at_the_same_noise(config, baked, experiment) for experiment in (None, tmp_path / "whole"))
    assert after < before

    rollouts = tmp_path / "rollouts"
    policy = ["policy=local", f"policy.checkpoints_dir={tmp_path / 'whole'}"]
    run("stage=infer", "+debug=tiny", *policy, f"output_dir={rollouts}")
    assert len(positronic.open_raw(rollouts)) == 1


def run(*typed):
    return positronic.run(positronic.compose(list(typed)))


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


def loss_at_the_same_noise(config, baked, experiment):
    """Over the whole dataset, of new weights or of those of an experiment's last checkpoint."""
    job = prepare(config, open_baked(baked).recipe, baked)
    trainable = registry.backend_of(config.vendor.name).trainable(job)
    if experiment is not None:
        trainable.load(find_checkpoint(experiment).pretrained_model)
    dataset = job.sides.training
    return Validation(trainable, dataset, in_memory(dataset), job.settings).loss()
