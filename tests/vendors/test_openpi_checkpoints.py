"""Checkpoints of π0.5 as a toy: resumed, moved, trained on from, exported."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import positronic
from positronic.errors import PositronicError
from positronic.policies import library
from positronic.policies.model import PolicyModel
from positronic.policies.weights import load_config
from positronic.stages.train import run as run_train
from positronic.training.checkpoints import list_checkpoints, read_info, trained_recipe
from positronic.vendors import registry
from positronic.vendors.openpi.export import export
from positronic.vendors.openpi.tokens import load_tokenizer
from positronic.vendors.openpi.toy import built_at, toy_in

torch.set_num_threads(1)  # these tests share their cores

LORA, FULL = "pi05_positronic_lowmem", "pi05_positronic"
STEPS = 4
"""of the runs here; a checkpoint after each second one"""
A_CHUNK = (50, 8)


@pytest.mark.parametrize("name", [LORA, FULL])
def test_a_resumed_run_is_the_same_bit_for_bit(openpi_experiments, tmp_path, name, openpi_typed):
    """Weights, adapters, optimiser and losses."""
    whole = openpi_experiments[name]
    shutil.copytree(whole, tmp_path / name)
    shutil.rmtree(tmp_path / name / "checkpoints" / "000004")
    more = (f"exp_name={name}", f"modality.config_name={name}", "resume=true")
    run_train(positronic.compose(openpi_typed(tmp_path, *more)))
    last = "checkpoints/000004/pretrained_model/model.safetensors"
    assert (tmp_path / name / last).read_bytes() == (whole / last).read_bytes()
    losses = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, tmp_path / name)
    ]
    assert len(losses[0]) == STEPS
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", [LORA, FULL])
def test_a_checkpoint_holds_no_weights_without_use(openpi_experiments, name):
    """Neither of the heads that predict words: at real size, 790 M parameters."""
    with safe_open(weights_of(openpi_experiments[name]), "pt") as file:
        names = list(file.keys())
    assert not [each for each in names if "lm_head" in each]
    assert any("lora_a" in each for each in names) == (name == LORA)


def test_lora_trains_what_openpi_trains(openpi_experiments):
    """Adapters, vision and the layers around actions; the language models stay, bit for bit."""
    first, last = (load_file(weights_of(openpi_experiments[LORA], step)) for step in (2, 4))
    changed = {name for name in last if not torch.equal(first[name], last[name])}
    language = {name for name in last if "language_model" in name or "gemma_expert" in name}
    assert changed & language == {name for name in language if name.endswith(("lora_a", "lora_b"))} - LAST_LAYER
    assert {"model.action_in_proj.weight", "model.action_out_proj.bias"} < changed
    assert any("vision_tower" in name for name in changed)


# Of the last layer of the language model only keys and values are looked at.
LAST_LAYER = {
    f"model.paligemma_with_expert.paligemma.model.language_model.layers.1.{layer}.{factor}"
    for layer in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    for factor in ("lora_a", "lora_b")
}


def weights_of(experiment, step=STEPS):
    return experiment / f"checkpoints/{step:06d}/pretrained_model/model.safetensors"


@pytest.mark.parametrize("name", [LORA, FULL])
def test_a_checkpoint_needs_nothing_outside_of_it(
    openpi_experiments, openpi_typed, openpi_observations, openpi_noise, tmp_path, name
):
    """Fine-tuned from a base that is deleted, then moved: the same chunk. It names no folder."""
    base = shutil.copytree(weights_of(openpi_experiments[name]).parents[1], tmp_path / "base")
    run_train(positronic.compose(finer(openpi_typed, tmp_path, base, name)))
    checkpoint = tmp_path / "finer/checkpoints/000001"
    chunk = registry.load_model("openpi", checkpoint, "cpu").predict(openpi_observations[:1], [openpi_noise(0)])
    moved = shutil.move(checkpoint, tmp_path / "moved")
    shutil.rmtree(base)
    np.testing.assert_array_equal(
        registry.load_model("openpi", moved, "cpu").predict(openpi_observations[:1], [openpi_noise(0)]), chunk
    )
    texts = [path.read_text() for path in (moved / "pretrained_model").rglob("*.json")]
    assert not [text for text in texts if str(tmp_path) in text]


def finer(typed, folder, base, name, steps=1):
    """Typed to fine-tune ``base``; it says itself that it is a toy."""
    more = (f"vendor.base={base}", f"modality.config_name={name}", "exp_name=finer", f"num_train_steps={steps}")
    return [each for each in typed(folder, *more) if each != "vendor.toy=true"]


def test_training_goes_on_without_the_base(openpi_experiments, openpi_typed, tmp_path):
    """Tokenizer, sizes and weights are in the checkpoint, and the next one holds the very same tokenizer."""
    base = shutil.copytree(weights_of(openpi_experiments[FULL]).parents[1], tmp_path / "base")
    run_train(positronic.compose(finer(openpi_typed, tmp_path, base, FULL, steps=2)))
    shutil.rmtree(base)
    run_train(positronic.compose([*finer(openpi_typed, tmp_path, base, FULL, steps=3), "resume=true"]))
    before, after = (tmp_path / f"finer/checkpoints/00000{step}/pretrained_model/tokenizer" for step in (2, 3))
    assert {path.name: path.read_bytes() for path in before.iterdir()} == {
        path.name: path.read_bytes() for path in after.iterdir()
    }


def test_mask_padding_is_kept_by_a_resumed_run(tmp_path, openpi_typed):
    """It shapes every step."""
    line = openpi_typed(tmp_path, "exp_name=masked", "num_train_steps=1")
    run_train(positronic.compose([*line, "vendor.mask_padding=true"]))
    with pytest.raises(PositronicError, match="vendor.mask_padding: the checkpoint has True; this run has False"):
        run_train(positronic.compose([*line, "resume=true"]))


def test_a_toy_goes_on_as_a_toy(tmp_path, openpi_typed):
    """Its checkpoint says its sizes; whoever resumes it must not mean another."""
    line = openpi_typed(tmp_path, "exp_name=toy", "num_train_steps=1")
    run_train(positronic.compose(line))
    with pytest.raises(PositronicError, match="vendor.toy: the checkpoint has True; this run has False"):
        run_train(positronic.compose([*(each for each in line if each != "vendor.toy=true"), "resume=true"]))


def test_a_run_in_bf16_is_served(openpi_typed, openpi_observations, tmp_path):
    """The checkpoint keeps the types, and its chunk is float32."""
    run_train(positronic.compose(openpi_typed(tmp_path, "exp_name=half", "precision=bf16", "num_train_steps=1")))
    model = registry.load_model("openpi", tmp_path / "half/checkpoints/000001", "cpu")
    (chunk,) = model.predict(openpi_observations[:1])
    assert (chunk.dtype, chunk.shape) == (np.float32, A_CHUNK)
    assert np.isfinite(chunk).all()


def test_lerobot_reads_the_processors(openpi_experiments):
    """Its own function, given the tokenizer."""
    from lerobot.policies import make_pre_post_processors

    folder = weights_of(openpi_experiments[FULL]).parent
    tokenizer = {"tokenizer_processor": {"tokenizer": load_tokenizer(folder / "tokenizer")}}
    before, after = make_pre_post_processors(
        load_config(folder, "cpu"), pretrained_path=str(folder), preprocessor_overrides=tokenizer
    )
    seen = before({"observation.state": torch.full((1, 8), 0.5), "task": ["Stack."]})
    assert after(torch.zeros(1, 50, 8)).shape == (1, *A_CHUNK)
    assert seen["observation.language.tokens"].shape == (1, 96)


@pytest.mark.parametrize("name", [LORA, FULL])
def test_lerobot_loads_what_is_exported(openpi_experiments, tmp_path, openpi_observations, name, openpi_noise):
    """Its own from_pretrained: weights in float32, adapters merged, the same chunk to 1e-5."""
    checkpoint = list_checkpoints(openpi_experiments[name])[-1].path
    export(checkpoint, tmp_path / "exported")
    with built_at(toy_in(tmp_path / "exported")):
        policy = library.policy_class("pi05").from_pretrained(tmp_path / "exported", strict=False)
    assert {tensor.dtype for tensor in load_file(tmp_path / "exported/model.safetensors").values()} == {torch.float32}
    served = registry.load_model("openpi", checkpoint, "cpu")
    parts = replace(served._parts, module=policy.eval())

    def act(seen, noise):
        return policy.predict_action_chunk(seen, noise=noise)

    theirs = PolicyModel(parts, act, trained_recipe(read_info(checkpoint)), "cpu", (50, 32))
    noise = [openpi_noise(0)]
    expected = served.predict(openpi_observations[:1], noise)
    np.testing.assert_allclose(theirs.predict(openpi_observations[:1], noise), expected, rtol=0, atol=1e-5)


def test_what_is_exported_is_a_base(openpi_experiments, openpi_typed, tmp_path):
    """Merged, it is fine-tuned whole."""
    export(list_checkpoints(openpi_experiments[LORA])[-1].path, tmp_path / "exported")
    run_train(positronic.compose(finer(openpi_typed, tmp_path, tmp_path / "exported", FULL)))
    assert (tmp_path / "finer/checkpoints/000001").is_dir()
