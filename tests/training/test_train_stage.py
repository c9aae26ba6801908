"""stage=train as a whole: the smallest ACT through lerobot, on two short episodes."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from toy_language import OTHERS, small, write_smolvlm

import positronic
from positronic.errors import PositronicError
from positronic.stages.train import run
from positronic.training.checkpoints import find_checkpoint, list_checkpoints
from positronic.vendors import registry

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, SAVED_AT, KILLED_AT = 20, 10, 12
# Runs the stage with the overrides given to it, and kills itself, as the kernel would, after a step.
KILLED_RUN = f"""
import os, signal, sys
import positronic
from positronic.stages.train import run
from positronic.training.loop import Learner

whole_step = Learner.step

def step(self, batch, number, part):
    whole_step(self, batch, number, part)
    if number == {KILLED_AT}:
        os.kill(os.getpid(), signal.SIGKILL)

Learner.step = step
run(positronic.compose(sys.argv[1:]))
"""


@pytest.fixture
def overrides(tiny_act):
    """``overrides("name", ...)``: what one would type after ``python run.py``."""
    fixed = ["learning_rate=1e-3", f"num_train_steps={STEPS}", f"save_freq={SAVED_AT}"]
    return lambda name, *more: tiny_act(name, *fixed, *more)


def train(overrides):
    run(positronic.compose(overrides))


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: (row["loss"], row["lr"], row["grad_norm"]) for row in rows}


def test_a_killed_run_resumes_to_the_same_losses(overrides, tmp_path):
    """SIGKILL two steps after a checkpoint; resumed, every loss is that of a run that was not killed, bit for bit."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", KILLED_RUN, *overrides("killed")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as killed:
        train(overrides("whole"))  # meanwhile
        _, error = killed.communicate()
    assert killed.returncode == -9, error.decode()
    assert [c.step for c in list_checkpoints(tmp_path / "killed")] == [SAVED_AT]
    assert max(losses(tmp_path / "killed")) in (KILLED_AT - 1, KILLED_AT)

    train(overrides("killed", "resume=true"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert list(losses(tmp_path / "whole")) == list(range(1, STEPS + 1))


def hydra_text(value):
    """As one types it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{hydra_text(each)}" for name, each in value.items()) + "}"
    return "null" if value is None else str(value).replace(" ", "")


DIFFUSION = ["type=diffusion", "vision_backbone=resnet_small", "horizon=8", "n_action_steps=8", "down_dims=[16,32]"]
SMOLVLA = ["type=smolvla", "load_vlm_weights=false", "num_vlm_layers=2", "resize_imgs_with_padding=[64,64]"]
SMOLVLA += ["chunk_size=8", "n_action_steps=8"]


@pytest.mark.parametrize("name", ["diffusion", "smolvla", *OTHERS])
def test_other_policies_resume_exactly_too(baked_path, tmp_path, name, monkeypatch):
    """Flow matching and diffusion draw noise and times at each step. Names that LeRobot has fixed are in tmp_path."""
    monkeypatch.chdir(tmp_path)
    fields = {"diffusion": DIFFUSION, "smolvla": SMOLVLA}.get(name)
    if name == "smolvla":
        fields = [*fields, f"vlm_model_name={write_smolvlm(tmp_path / 'language')}"]
    policy = OTHERS[name](tmp_path, 16) if name in OTHERS else {"type": name}
    fields = fields or [f"{field}={hydra_text(value)}" for field, value in policy.items()]
    fixed = ["stage=train", "modality.image_size=[16,16]", f"input_path={baked_path}", f"output_dir={tmp_path}"]
    fixed += ["modality.action_horizon_sec=0.2"]
    fixed += ["batch_size=3", "device=cpu", "log_freq=1", "save_freq=2", "lr_schedule=constant", "warmup_fraction=0"]
    fixed += [f"vendor.policy.{field}" for field in fields]
    with small(policy):
        train([*fixed, "exp_name=whole", "num_train_steps=4"])
        train([*fixed, "exp_name=halves", "num_train_steps=2"])
        train([*fixed, "exp_name=halves", "num_train_steps=4", "resume=true"])
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    weights = [find_checkpoint(tmp_path / name).pretrained_model / "model.safetensors" for name in ("whole", "halves")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_resumed_smolvla_needs_neither_its_base_nor_its_language_model(baked_path, tmp_path):
    """Both are gone; what was typed about them is typed again."""
    language = write_smolvlm(tmp_path / "language")
    fixed = ["stage=train", "modality.image_size=[16,16]", "modality.action_horizon_sec=0.2", "device=cpu"]
    fixed += [f"input_path={baked_path}", f"output_dir={tmp_path}", "batch_size=3", "save_freq=1", "keep_last=1"]
    fixed += [f"vendor.policy.{field}" for field in (*SMOLVLA, f"vlm_model_name={language}")]
    train([*fixed, "exp_name=base", "num_train_steps=1"])
    finer = [*fixed, "exp_name=finer", f"vendor.base={tmp_path / 'base'}", "vendor.policy.load_vlm_weights=true"]
    finer = [each for each in finer if each != "vendor.policy.load_vlm_weights=false"]
    train([*finer, "num_train_steps=1"])
    shutil.rmtree(language)
    shutil.rmtree(tmp_path / "base")
    train([*finer, "num_train_steps=3", "resume=true"])
    assert find_checkpoint(tmp_path / "finer").step == 3


def test_a_trained_checkpoint_is_served_by_its_vendor(overrides, tmp_path, dataset):
    """What positronic.json says is enough to load it, and its answer lies near the data it learnt."""
    train(overrides("run", "modality.action_horizon_sec=0.2", "num_train_steps=2"))
    checkpoint = find_checkpoint(tmp_path / "run")
    info = checkpoint.info()
    model = registry.load_model(info["vendor"], checkpoint.path, "cpu")
    columns = {name: table[0] for name, table in dataset.vectors.items() if name != "action"}
    images = {name: torch.zeros(shape, dtype=torch.uint8).numpy() for name, shape in dataset.image_shapes.items()}
    (chunk,) = model.predict([columns | images])
    assert chunk.shape == (4, 8)
    assert abs(chunk).max() < 10
    assert info["recipe"]["modality"]["action_horizon_sec"] == 0.2
    assert info["training"]["policy"]["dim_model"] == 32


def test_a_missing_dataset_is_refused_with_the_command_that_makes_it(overrides, tmp_path):
    """The command bakes with the same vendor, codec and recordings, to where this run looks."""
    typed = overrides("run", f"input_path={tmp_path / 'none'}")
    said = rf"no baked dataset at .*none.*\n  python run\.py stage=convert .*codec=ee .*output_dir={tmp_path / 'none'}"
    with pytest.raises(PositronicError, match=rf"(?s){said}"):
        train(typed)


def test_an_unknown_field_of_the_policy_stops_before_anything_is_written(overrides, tmp_path):
    """Nor is a folder left that would be in the way of the next try."""
    with pytest.raises(PositronicError, match="dim_modell: ACTConfig has no such field"):
        train(overrides("run", "+vendor.policy.dim_modell=3"))
    assert not (tmp_path / "run").exists()


def test_running_again_says_what_to_type(overrides, tmp_path, capsys):
    """Refused as it is; with resume=true it is done already; with more steps it goes on."""
    short = overrides("run", "num_train_steps=2", "save_freq=2")
    train(short)
    with pytest.raises(PositronicError, match=r"its last checkpoint is 000002(?s:.*)resume=true"):
        train(short)
    capsys.readouterr()
    train([*short, "resume=true"])
    assert "is trained to step 2 already" in capsys.readouterr().out
    train(overrides("run", "save_freq=2", "resume=true", "num_train_steps=3"))
    assert "Continuing" in capsys.readouterr().out
    assert find_checkpoint(tmp_path / "run").step == 3


def test_resume_without_a_checkpoint_starts_at_the_beginning(overrides, tmp_path, capsys):
    """So that a job that may be restarted at any time can always say resume=true."""
    train(overrides("run", "num_train_steps=2", "save_freq=2", "resume=true"))
    assert "has no checkpoint yet: training starts at the beginning" in capsys.readouterr().out
    assert find_checkpoint(tmp_path / "run").step == 2


def test_wandb_offline_needs_no_account(overrides, tmp_path):
    """The run is in the experiment's folder, under an id that a resumed one will continue."""
    train(overrides("run", "num_train_steps=2", "save_freq=2", "tracker=wandb", "tracker.mode=offline"))
    run_id = (tmp_path / "run" / "wandb_run_id").read_text().strip()
    assert list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{run_id}"))
