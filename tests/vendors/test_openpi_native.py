"""π0.5 as a toy: trained by the product's own loop, resumed, loaded, asked for chunks."""

import json
import shutil

import numpy as np
import pytest
import torch

import positronic
from positronic.bake.frame_source import in_memory
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.stages.train import run as run_train
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.checkpoints import list_checkpoints
from positronic.training.device import to_device
from positronic.training.trainable import PolicySpec
from positronic.vendors import registry
from positronic.vendors.openpi import native

torch.set_num_threads(1)  # these tests share their cores

LORA, FULL = "pi05_positronic_lowmem", "pi05_positronic"
STEPS = 4
"""of the runs here; a checkpoint after each second one"""
A_CHUNK = (50, 8)


def typed(path, folder, *more):
    fixed = ["stage=train", "vendor=openpi", "modality.image_size=[56,56]", f"input_path={path}"]
    fixed += [f"output_dir={folder}", "vendor.toy=true", "vendor.base=random", "device=cpu", "precision=fp32"]
    fixed += [f"num_train_steps={STEPS}", "save_freq=2", "log_freq=1", "batch_size=4", "learning_rate=1e-3"]
    return [*fixed, *more]


@pytest.fixture(scope="module")
def experiments(openpi_path, tmp_path_factory):
    """Trained whole and with adapters: name of the config -> folder."""
    folder = tmp_path_factory.mktemp("experiments")
    made = {}
    for name in (LORA, FULL):
        config = positronic.compose(typed(openpi_path, folder, f"exp_name={name}", f"modality.config_name={name}"))
        run_train(config)
        made[name] = folder / name
    return made


@pytest.fixture(scope="module")
def dataset(openpi_path):
    return open_baked(openpi_path)


def spec(dataset, *more, **values):
    """What to build for ``dataset``, with what is typed."""
    config = positronic.compose(["stage=train", "vendor=openpi", "modality.image_size=[56,56]", *more])
    recipe = build(config.codec, config.modality, dataset.recipe.reference_rotations)
    return PolicySpec(recipe, dataset.stats, config.vendor.policy, "cpu", **{"toy": True, "dataset": dataset} | values)


@pytest.fixture(scope="module")
def trainable(dataset):
    torch.manual_seed(0)
    return native.make_trainable(spec(dataset))


@pytest.fixture(scope="module")
def maker(dataset, trainable):
    order = SampleOrder(len(dataset), 4, 0)
    return BatchMaker(dataset, in_memory(dataset), order, trainable.action_offsets, trainable.with_task)


@pytest.fixture(scope="module")
def model(experiments):
    return registry.load_model("openpi", list_checkpoints(experiments[LORA])[-1].path, "cpu")


@pytest.fixture
def observations(dataset):
    """Four observations with prompts of four lengths."""
    rows, numbers = [3, 70, 130, 175], np.random.default_rng(0)
    prompts = ["", "Stack.", "Pick up the green cube and put it on the red one.", "Stack, slowly."]
    images = ("observation.images.left", "observation.images.side")
    return [
        {name: numbers.integers(0, 256, (56, 56, 3)).astype(np.uint8) for name in images}
        | {"observation.state": dataset.vectors["observation.state"][row], "prompt": prompt}
        for row, prompt in zip(rows, prompts, strict=True)
    ]


def noise_of(number):
    return np.random.default_rng(number).normal(size=(50, 32)).astype(np.float32)


@pytest.mark.parametrize("name", [LORA, FULL])
def test_a_resumed_run_is_the_same_bit_for_bit(experiments, openpi_path, tmp_path, name):
    """Weights, adapters, optimiser and losses."""
    whole = experiments[name]
    shutil.copytree(whole, tmp_path / name)
    shutil.rmtree(tmp_path / name / "checkpoints" / "000004")
    more = (f"exp_name={name}", f"modality.config_name={name}", "resume=true")
    run_train(positronic.compose(typed(openpi_path, tmp_path, *more)))
    last = "checkpoints/000004/pretrained_model/model.safetensors"
    assert (tmp_path / name / last).read_bytes() == (whole / last).read_bytes()
    losses = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, tmp_path / name)
    ]
    assert len(losses[0]) == STEPS
    assert losses[0] == losses[1]


def test_training_learns(trainable, maker):
    """At the same noise, the loss falls within twenty steps."""

    def at_fixed_noise():
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.manual_seed(0)
            return np.mean([float(trainable.loss(to_device(maker[step], "cpu"))) for step in range(4)])

    before = at_fixed_noise()
    optimiser = torch.optim.AdamW([p for p in trainable.module.parameters() if p.requires_grad], lr=1e-2)
    for step in range(20):
        optimiser.zero_grad()
        trainable.loss(to_device(maker[step], "cpu")).backward()
        optimiser.step()
    assert at_fixed_noise() < 0.8 * before
