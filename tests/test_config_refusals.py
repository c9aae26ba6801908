"""Everything that is refused at composition, word for word."""

from copy import deepcopy
from functools import cache

import pytest
import yaml
from omegaconf import OmegaConf

import positronic
from positronic import values
from positronic.composition import compose_config
from positronic.config import CONF
from positronic.errors import PositronicError
from positronic.stages.convert import Convert

CODECS = "Valid codecs for vendor=lerobot: ee, ee_joints_cmd, ee_traj, joints, joints_cmd, joints_traj."
FOLDER = "<folder of raw episodes>"
EXPERIMENT = "<an experiment's folder, the one that holds checkpoints/>"

# What was typed, and the sentence that comes back.
REFUSALS = {
    "codec=droid": f"codec=droid has no lerobot modality. {CODECS} (droid works with vendor=openpi.)",
    "codec=jonts": f"codec=jonts has no lerobot modality. {CODECS} Did you mean 'joints'?",
    "vendor=lerbot": "vendor=lerbot is not known. Valid choices for vendor: gr00t, lerobot, openpi."
    " Did you mean 'lerobot'?",
    "stage=trian": "stage=trian is not known. Valid choices for stage: collect, compare, convert, import, infer,"
    " pipeline, serve, stats, sweep, train. Did you mean 'train'?",
    "stage=infer policy=.remote": "policy=.remote is not known. Valid choices for policy: local, remote, scripted."
    " Did you mean 'remote'?",
    "+debug=tniy": "debug=tniy is not known. Valid choices for debug: overfit, profile, tiny. Did you mean 'tiny'?",
    "codec=from_checkpoint": "codec=from_checkpoint cannot be used with stage=train: it stands for the codec of a"
    " checkpoint, and there is none yet.",
    "stage=train seed": "Found 'seed', expected key=value: no spaces around the =, and quotes around a value that holds"
    " spaces.",
    "stage=train \u2013m": "Parameters are typed without dashes, and flags with plain ones. Type -m.",
    "stage=x train": "Found 'train', expected key=value. Type stage=train.",
    "stage=convert dataset.path=": f"stage=convert needs dataset.path. Type dataset.path={FOLDER}, or dataset=demo"
    " for the demonstrations of stage=collect.",
    "stage=serve checkpoints_dir=": f"stage=serve needs checkpoints_dir. Type checkpoints_dir={EXPERIMENT}.",
    "learning_rat=1e-4": "Key 'learning_rat' is not a parameter of stage=train. Did you mean 'learning_rate'?",
    "polcy=remote": "Key 'polcy' is not a parameter of stage=train. Did you mean 'policy'?",
    "server.prot=1": "Key 'server.prot' is not a parameter of stage=train. Did you mean 'server.port'?",
    "simulation_time=20": "Key 'simulation_time' is not a parameter of stage=train."
    " Did you mean 'driver.simulation_time'?",
    "stage=convert num_train_steps=5": "Key 'num_train_steps' is not a parameter of stage=convert."
    " It belongs to stage=train.",
    "+foo=1": "Key 'foo' is not a parameter of stage=train.",
    "+vendor.polcy=1": "Key 'vendor.polcy' is not a parameter of stage=train. Did you mean 'vendor.policy'?",
    "experiment=quickstart": "Key 'experiment' is not a parameter of stage=train. It is a preset, and those take a"
    " plus: +experiment=...",
    "stages.train.seed=3": "Key 'stages.train.seed' is not a parameter of stage=train. It belongs into a preset; type"
    " seed=... itself.",
    "num_train_steps=abc": "num_train_steps=abc: expected a whole number.",
    "precision=bf15": "precision=bf15: expected one of auto, fp32, bf16. Did you mean 'bf16'?",
    "dataset_root=x": "'dataset_root' is called 'input_path' here. Type input_path=x.",
    "output_path=x": "'output_path' is called 'output_dir' here. Type output_dir=x.",
    "run_name=x": "'run_name' is called 'exp_name' here. Type exp_name=x.",
    "steps=5": "'steps' is called 'num_train_steps' here. Type num_train_steps=5.",
    "save_steps=5": "'save_steps' is called 'save_freq' here. Type save_freq=5.",
    "hardware.scene.cube_gap=0.1": "'hardware.scene.cube_gap' is called 'hardware.scene.gap' here. Type"
    " hardware.scene.gap=0.1.",
    "hardware.scoring.blue_shift=1": "'hardware.scoring.blue_shift' is called 'hardware.scoring.lower_shift' here. Type"
    " hardware.scoring.lower_shift=1.",
    "hardware.scoring.red_speed=1": "'hardware.scoring.red_speed' is called 'hardware.scoring.upper_speed' here. Type"
    " hardware.scoring.upper_speed=1.",
    "stage=serve checkpoint_path=x": "'checkpoint_path' is called 'checkpoints_dir' here. Type checkpoints_dir=x.",
    "stage=serve port=1": "'port' is called 'server.port' here. Type server.port=1.",
    "stage=infer host=x": "'host' is called 'policy.host' here. Type policy.host=x.",
    "stage=train port=1": "'port' is called 'policy.port' or 'server.port' here. Type policy.port=1.",
    "modality_config=ee_q": "'modality_config' is not typed here: it follows from codec=; docs/codecs.md says which"
    " codec has it.",
    "modality=lerobot/ee": "'modality' is not typed here: it follows from vendor= and codec=.",
    "stage=stats codec=joints input_path=x": "'codec' and 'input_path' both say which dataset: the one at x knows what"
    " it was baked with. Leave out codec=, or input_path= to take the dataset that codec= stands for.",
    "stage=stats dataset=local": f"stage=stats needs dataset.path. Type dataset.path={FOLDER}, or dataset=demo for the"
    " demonstrations of stage=collect.",
    "stage=convert dataset=local": f"stage=convert needs dataset.path. Type dataset.path={FOLDER}, or dataset=demo for"
    " the demonstrations of stage=collect.",
    "dataset=local": f"stage=train needs dataset.path. Type dataset.path={FOLDER}, or dataset=demo for the"
    " demonstrations of stage=collect.",
    "stage=compare": (
        "stage=compare needs rollouts. Type rollouts=[<folder that stage=infer wrote>,<another>], or "
        "+experiment=compare_models dataset.path=<folder of raw episodes> to train several models and evaluate them."
    ),
    "stage=serve": f"stage=serve needs checkpoints_dir. Type checkpoints_dir={EXPERIMENT}.",
    "stage=infer policy=local": f"stage=infer needs policy.checkpoints_dir. Type policy.checkpoints_dir={EXPERIMENT}.",
    "stage=infer hardware=replay": f"stage=infer needs hardware.path. Type hardware.path={FOLDER}.",
}
REFUSALS["stage=convert dataset=/data/x"] = (
    "dataset=/data/x is not known. Valid choices for dataset: demo, lerobot, local, phail, sim_pick_place, "
    "sim_stack_cubes. For a folder, type dataset=local dataset.path=/data/x."
)
REFUSALS["stage=convert dataset.path=x embodiment.cameras.front=exterior_2"] = (
    "embodiment.cameras counts only with a robot that it is about; found embodiment=from_data, which takes what the"
    " data say. Type embodiment=<name> as well, e.g. embodiment=franka."
)
REFUSALS["vendor.policy.chunk_size=8"] = (
    "modality.action_horizon_sec=1.0 plays 15 steps at 15 Hz, but vendor.policy.chunk_size=8. Type"
    " modality.action_horizon_sec=0.533 or less, or a larger vendor.policy.chunk_size."
)
# Values outside their field's rule.
RULES = {
    "num_train_steps=0": "num_train_steps=0: expected a number from 1 on.",
    "learning_rate=0": "learning_rate=0.0: expected a number above 0, at most 1.",
    "warmup_fraction=3": "warmup_fraction=3.0: expected a number from 0 to 1.",
    "modality.image_size=[224]": "modality.image_size=[224]: expected a height and a width in pixels, even and at most"
    " 8192: [height,width].",
    "lr_schedule=cos": "lr_schedule=cos: expected one of cosine, constant. Did you mean 'cosine'?",
    "dataset_format=v2.0": "dataset_format=v2.0: expected one of v3.0, v2.1. Did you mean 'v3.0'?",
    "on_bad_episode=skp": "on_bad_episode=skp: expected one of stop, skip. Did you mean 'skip'?",
    "dataset.layout=locl": "dataset.layout=locl: expected one of local, local_all, lerobot. Did you mean 'local'?",
    "codec.label=mesured": "codec.label=mesured: expected one of commanded, measured. Did you mean 'measured'?",
    "codec.state=[ee_pose,gripp]": "codec.state=gripp: expected one of ee_pose, grip, joint_position."
    " Did you mean 'grip'?",
    "server.host=example": "server.host=example: expected one of 0.0.0.0, 127.0.0.1, localhost, ::.",
}


def overrides_of(typed: str) -> list[str]:
    return typed.split() if "stage=" in typed else ["stage=train", *typed.split()]


@pytest.mark.parametrize("typed", REFUSALS)
def test_a_mistake_gets_one_sentence_that_says_what_to_type(typed):
    """Expected, found, and the next thing to type; never a traceback of Hydra's."""
    with pytest.raises(PositronicError) as refusal:
        positronic.compose(overrides_of(typed))
    assert str(refusal.value) == REFUSALS[typed]


@cache
def composed(stage):
    return compose_config([f"stage={stage}"], CONF)


@pytest.mark.parametrize("typed", RULES)
def test_a_value_outside_its_rule_is_named_with_what_was_expected(typed):
    """Said beside the field, checked in one place."""
    key, _, value = typed.partition("=")
    cfg = deepcopy(composed("convert" if key in Convert.__dataclass_fields__ else "train"))
    OmegaConf.update(cfg, key, yaml.safe_load(value))
    with pytest.raises(PositronicError) as refusal:
        values.check(cfg)
    assert str(refusal.value) == RULES[typed]


def test_one_text_instead_of_a_list_is_refused():
    """A text is a sequence too, of letters."""
    with pytest.raises(PositronicError, match=r"compose\(\['stage=train', 'codec=ee'\]\)"):
        positronic.compose("stage=train codec=ee")


def test_without_a_stage_the_stages_are_listed():
    """Nothing runs that was not typed."""
    with pytest.raises(
        PositronicError, match=r"Type a stage: stage=collect\|import\|convert\|stats\|train\|serve\|infer"
    ):
        positronic.compose([])


def test_a_line_that_hydra_cannot_read_is_refused_too():
    """An open bracket is a mistake like any other."""
    with pytest.raises(PositronicError, match="all brackets and quotes closed"):
        positronic.compose(["stage=train", "modality.image_size=[64,64"])


def test_a_swept_value_outside_a_multirun_is_refused():
    """A comma without -m is ambiguous."""
    with pytest.raises(PositronicError, match="python run.py -m ... seed=1,2"):
        positronic.compose(["stage=train", "seed=1,2"])


def test_older_names_and_shared_bases_are_not_offered():
    """The lists hold what a person should type."""
    with pytest.raises(PositronicError) as refusal:
        positronic.compose(["stage=train", "codec=nonsense"])
    assert not any(name in str(refusal.value) for name in ("eepose_absolute", "from_checkpoint", "_base"))
