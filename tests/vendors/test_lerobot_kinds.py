"""LeRobot's policies beside ACT through lerobot's own classes: training, saving, predicting for several robots."""

import shutil

import numpy as np
import pytest
import torch
from toy_language import OTHERS, small, write_smolvlm

from positronic.errors import PositronicError
from positronic.training.device import to_device
from positronic.training.trainable import PolicySpec
from positronic.vendors import registry
from positronic.vendors.lerobot.kinds import COUNTS, DRAWS, kind_of
from positronic.vendors.lerobot.native import make_trainable

torch.set_num_threads(1)
STEPS = 8
DIFFUSION = {
    "type": "diffusion",
    "horizon": STEPS,
    "n_action_steps": STEPS,
    "n_obs_steps": 1,
    "noise_scheduler_type": "DDIM",
    "num_inference_steps": 2,
    "do_mask_loss_for_padding": True,
    "vision_backbone": "resnet_small",
    "pretrained_backbone_weights": None,
    "use_group_norm": True,
    "down_dims": [16, 32],
    "diffusion_step_embed_dim": 16,
}


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return write_smolvlm(tmp_path_factory.mktemp("smolvlm"))


@pytest.fixture(params=["diffusion", "smolvla", *OTHERS])
def policy(request, tmp_path_factory, monkeypatch):
    """``vendor.policy`` of the smallest one."""
    if request.param == "diffusion":
        return dict(DIFFUSION)
    if request.param in OTHERS:
        folder = tmp_path_factory.mktemp(request.param)
        monkeypatch.chdir(folder)
        return OTHERS[request.param](folder, 32)
    return {
        "type": "smolvla",
        "vlm_model_name": str(request.getfixturevalue("language")),
        "load_vlm_weights": False,
        "num_vlm_layers": 2,
        "chunk_size": STEPS,
        "n_action_steps": STEPS,
        "num_steps": 2,
        "resize_imgs_with_padding": [64, 64],
        "tokenizer_max_length": 24,
    }


@pytest.fixture
def trainable(recipe, stats, policy):
    torch.manual_seed(0)
    with small(policy):
        yield make_trainable(PolicySpec(recipe, stats, policy, "cpu"))


def batch(recipe, task="stack it", size=2):
    numbers = np.random.default_rng(0)
    columns = {
        column.name: numbers.integers(0, 256, (size, *column.shape)).astype(np.uint8)
        if column.is_image
        else numbers.normal(size=(size, *column.shape)).astype(np.float32)
        for column in recipe.modality.observation_columns
    }
    action = numbers.uniform(0.2, 0.8, (size, STEPS, 8)).astype(np.float32)
    return columns | {"action": action, "action_is_pad": np.zeros((size, STEPS), bool), "task": [task] * size}


def loss_of(trainable, columns):
    torch.manual_seed(0)
    return trainable.loss(to_device(columns, "cpu"))


def test_a_step_of_training_lowers_the_loss(trainable, recipe):
    """At the same noise, on the same batch."""
    parameters = [p for group in trainable.groups() for p in group.parameters if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    trainable.module.train()
    losses = []
    for _ in range(6):
        loss = loss_of(trainable, batch(recipe))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_steps_beyond_an_episode_do_not_count_or_it_is_said(trainable, recipe, policy):
    """A chunk of nothing else has no loss."""
    columns = batch(recipe)
    assert loss_of(trainable, columns).item() > 0
    columns["action_is_pad"][:] = True
    assert (loss_of(trainable, columns).item() > 0) == (COUNTS in (kind_of(policy["type"]).lacks or ""))


def test_a_batch_predicts_what_each_would_alone(checkpoint, observation, policy):
    """Each with its own noise and its own instruction. One that cannot be given noise says so."""
    model = registry.load_model("lerobot", checkpoint, "cpu")
    if model.noise_shape is None:
        assert DRAWS in kind_of(policy["type"]).lacks
        assert [chunk.shape for chunk in model.predict([observation(), observation(1)])] == [(STEPS, 8)] * 2
        return
    tasks = ["stack", "fold it", ""]
    observations = [observation(seed) | {"task": task} for seed, task in enumerate(tasks)]
    noise = [np.random.default_rng(seed).standard_normal(model.noise_shape, np.float32) for seed in range(3)]
    alone = [model.predict([o], [n])[0] for o, n in zip(observations, noise, strict=True)]
    together = model.predict(observations, noise)
    assert [chunk.shape for chunk in together] == [(STEPS, 8)] * 3
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(model.predict([observations[0]], [noise[1]])[0] - alone[0]).max() > 1e-3


def test_the_checkpoint_may_move(checkpoint, policy, observation, tmp_path, tmp_path_factory, monkeypatch):
    """Nothing in it is an absolute path, and nothing outside of it is read."""

    def chunk(folder):
        model = registry.load_model("lerobot", folder, "cpu")
        noise = model.noise_shape and [np.ones(model.noise_shape, np.float32)]
        torch.manual_seed(0)
        return model.predict([observation()], noise)

    before = chunk(checkpoint)
    moved = shutil.copytree(checkpoint, tmp_path.with_name(f"{tmp_path.name}_moved"))
    shutil.rmtree(checkpoint)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    for source in {policy[name] for name in ("text_encoder_name", "tokenizer_name") if name in policy}:
        shutil.rmtree(source)
    texts = [path.read_text() for path in moved.rglob("*.json")]
    assert len(texts) >= 3
    assert not [text for text in texts if str(tmp_path_factory.getbasetemp()) in text]
    np.testing.assert_array_equal(chunk(moved), before)


def test_training_may_start_from_a_folder_of_lerobots(checkpoint, trainable, recipe, stats, policy):
    """With the layout that LeRobot's own policies have on the hub."""
    torch.manual_seed(1)
    other = make_trainable(PolicySpec(recipe, stats, policy, "cpu", base=checkpoint / "pretrained_model"))
    for left, right in zip(trainable.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            {"type": "smolvla", "load_vlm_weights": False, "vlm_model_name": "positronic/none"},
            r"hf download positronic/none.*vlm_model_name=<that folder>.*starts from random weights",
        ),
        (
            {"type": "multi_task_dit", "n_obs_steps": 1},
            r"hf download openai/clip-vit-base-patch16.*vendor\.policy\.vision_encoder_name=<that folder>\.$",
        ),
        (
            {"type": "xvla", "action_mode": "auto"},
            r"hf download facebook/bart-large.*tokenizer_name=<that folder>\.$",
        ),
        ({"type": "pi0"}, r"tokenizer of google/paligemma-3b-pt-224.*put tokenizer\.json and tokenizer_config\.json"),
    ],
    ids=["smolvla", *OTHERS],
)
def test_a_language_model_that_is_not_there_is_said_with_what_to_bring(recipe, stats, monkeypatch, policy, said):
    """Offline by the hub's own setting, as on a machine without a network; before the network is built."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PositronicError, match=said):
        make_trainable(PolicySpec(recipe, stats, policy, "cpu"))
