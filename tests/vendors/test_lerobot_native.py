"""ACT through lerobot's own classes: training, saving, predicting."""

import json
import shutil

import numpy as np
import pytest
import torch

import positronic
from positronic.codecs.build import build
from positronic.errors import PositronicError
from positronic.training.checkpoints import write_info
from positronic.training.device import to_device
from positronic.training.trainable import PolicySpec
from positronic.vendors import registry
from positronic.vendors.lerobot.native import make_trainable

torch.set_num_threads(1)  # these tests share their cores


@pytest.fixture
def trainable(recipe, stats, tiny_act):
    torch.manual_seed(0)
    return make_trainable(PolicySpec(recipe, stats, tiny_act, "cpu"))


def batch(recipe, size=2, seed=0):
    numbers = np.random.default_rng(seed)
    columns = {
        column.name: numbers.integers(0, 256, (size, *column.shape)).astype(np.uint8)
        if column.is_image
        else numbers.normal(size=(size, *column.shape)).astype(np.float32)
        for column in recipe.modality.observation_columns
    }
    action = numbers.normal(size=(size, 4, 8)).astype(np.float32)
    return columns | {"action": action, "action_is_pad": np.zeros((size, 4), bool)}


def test_a_step_of_training_reaches_every_parameter(trainable, recipe):
    """The loss is a finite scalar, and its gradient arrives in backbone and transformer alike."""
    loss = trainable.loss(to_device(batch(recipe), "cpu"))
    loss.backward()
    assert loss.shape == ()
    assert torch.isfinite(loss)
    silent = [name for name, p in trainable.module.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY"])
def test_the_smallest_step_from_rest_stays_small_in_every_mode(recipe, stats, tiny_act, mode):
    """0.001 rad of a joint that never moved, a level of a camera of one colour: at most a tenth of a range."""
    for column in recipe.modality.columns:
        rest = np.full((3, 1, 1) if column.is_image else column.shape, 0.5)
        stats[column.name] |= dict.fromkeys(("min", "max", "mean", "q01", "q10", "q50", "q90", "q99"), rest)
        stats[column.name]["std"] = 0 * rest
    tiny_act["normalization_mapping"] = dict.fromkeys(("VISUAL", "STATE", "ACTION"), mode)
    before = make_trainable(PolicySpec(recipe, stats, tiny_act, "cpu"))._parts.before
    state, image = np.full((1, 8), 0.501, np.float32), np.full((1, 32, 32, 3), 128, np.uint8)
    columns = {"observation.state": state, "observation.images.left": image, "observation.images.side": image}
    seen = before(to_device(columns, "cpu"))
    largest = [float(value.abs().max()) for name, value in seen.items() if name.startswith("observation")]
    assert max(largest) < 2


def test_a_nearly_constant_dimension_is_not_blown_up(trainable, recipe):
    """A deviation of 1e-7 counts as 0.01, so that its noise stays noise; others keep their own."""
    saved = trainable._parts.before.steps[-1].state_dict()
    assert saved["observation.state.std"][5] == saved["action.std"][5] == pytest.approx(0.01)
    assert (saved["observation.state.std"][:5] > 0.1).all()


def test_padding_does_not_count(trainable, recipe):
    """What is written into a chunk beyond its episode changes nothing."""
    trainable.module.eval()
    left = batch(recipe)
    left["action_is_pad"][:, 2:] = True
    right = left | {"action": left["action"].copy()}
    right["action"][:, 2:] = 99.0
    losses = [trainable.loss(to_device(columns, "cpu")).item() for columns in (left, right)]
    assert losses[0] == losses[1]


def test_the_backbone_keeps_its_own_learning_rate(recipe, stats, tiny_act):
    """lerobot's groups: everything else first, then the backbone."""
    rates = {"optimizer_lr": 1e-3, "optimizer_lr_backbone": 1e-5}
    groups = make_trainable(PolicySpec(recipe, stats, tiny_act | rates, "cpu")).groups()
    assert [group.learning_rate for group in groups] == [1e-3, 1e-5]
    assert sum(len(group.parameters) for group in groups) > 60


def test_lerobot_loads_the_checkpoint_and_predicts_the_same(checkpoint, recipe, observation):
    """from_pretrained and lerobot's own processors, on the same observations, give our chunks."""
    from lerobot.policies import make_pre_post_processors
    from lerobot.policies.act.modeling_act import ACTPolicy

    observations = [observation(seed) for seed in range(3)]
    ours = registry.load_model("lerobot", checkpoint, "cpu").predict(observations)

    policy = ACTPolicy.from_pretrained(checkpoint / "pretrained_model")
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(checkpoint / "pretrained_model"))
    stacked = {
        name: torch.from_numpy(np.stack([o[name] for o in observations])) for name in observations[0] if name != "task"
    }
    floats = {name: v.permute(0, 3, 1, 2) / 255 if v.dtype == torch.uint8 else v for name, v in stacked.items()}
    theirs = after(policy.predict_action_chunk(before(floats)))
    np.testing.assert_allclose(np.stack(ours), theirs.numpy(), atol=1e-5)


def test_a_batch_predicts_what_each_would_alone(checkpoint, observation):
    """One forward pass for many robots: the same to float32's last digits (docs/inference.md), and to the last bit when
    the same robots ask again, whoever asked in between."""
    model = registry.load_model("lerobot", checkpoint, "cpu")
    alone = [model.predict([observation(seed)])[0] for seed in range(3)]
    together = model.predict([observation(seed) for seed in range(3)])
    assert [chunk.shape for chunk in together] == [(4, 8)] * 3
    assert together[0].dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_array_equal(model.predict([observation(seed) for seed in range(3)]), together)
    np.testing.assert_array_equal(model.predict([observation(0)])[0], alone[0])


def test_a_compiled_policy_predicts_what_it_did(checkpoint, observation):
    """Alone and in a batch. The part of torch that needs no compiler; what it writes for one is its own affair."""
    model = registry.load_model("lerobot", checkpoint, "cpu")
    seen = [observation(seed) for seed in range(3)]
    before = model.predict(seen), model.predict(seen[:1])
    model.compile(backend="aot_eager")
    for expected, found in zip(before, (model.predict(seen), model.predict(seen[:1])), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_closed_policy_gives_its_memory_back(checkpoint):
    """Whoever still holds the network."""
    model = registry.load_model("lerobot", checkpoint, "cpu")
    module = model._parts.module
    assert sum(weights.numel() for weights in module.state_dict().values()) > 10_000
    model.close()
    assert sum(weights.numel() for weights in module.state_dict().values()) == 0


def test_bf16_rounds_the_forward_pass(checkpoint, observation):
    """To about three digits, and actions stay float32."""
    model = registry.load_model("lerobot", checkpoint, "cpu")
    seen = [observation(0)]
    (exact,) = model.predict(seen)
    model.compute_in("bf16")
    (rounded,) = model.predict(seen)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.05


def test_weights_come_back_exactly(trainable, checkpoint, recipe, stats, tiny_act):
    """What resuming loads is what was saved, bit for bit."""
    torch.manual_seed(1)
    other = make_trainable(PolicySpec(recipe, stats, tiny_act, "cpu"))
    other.load(checkpoint / "pretrained_model")
    for (name, left), right in zip(
        trainable.module.state_dict().items(), other.module.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right), name


def test_the_task_is_kept_away_from_act(trainable, checkpoint, observation):
    """A policy that reads no language neither trains on the text nor minds it in an observation."""
    assert not trainable.with_task
    model = registry.load_model("lerobot", checkpoint, "cpu")
    without = {name: value for name, value in observation().items() if name != "task"}
    np.testing.assert_array_equal(model.predict([without])[0], model.predict([observation()])[0])


def test_a_wrong_observation_names_its_column(checkpoint, observation):
    """Missing, or of another shape than the policy was trained with."""
    model = registry.load_model("lerobot", checkpoint, "cpu")
    with pytest.raises(PositronicError, match=r"'observation\.state': expected \(8,\), found nothing"):
        model.predict([{name: v for name, v in observation().items() if name != "observation.state"}])
    with pytest.raises(
        PositronicError, match=r"'observation\.images\.left': expected \(32, 32, 3\), found \(16, 16, 3\)"
    ):
        model.predict([observation() | {"observation.images.left": np.zeros((16, 16, 3), np.uint8)}])


def test_a_checkpoint_needs_no_download(trainable, checkpoint):
    """Weights that training started from are in the checkpoint; its config does not ask for them again."""
    trainable._parts.config.pretrained_backbone_weights = "ResNet18_Weights.IMAGENET1K_V1"
    trainable.save(checkpoint / "pretrained_model")
    assert (
        json.loads((checkpoint / "pretrained_model" / "config.json").read_text())["pretrained_backbone_weights"] is None
    )
    assert trainable._parts.config.pretrained_backbone_weights is not None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_checkpoint_names_its_file(checkpoint, name):
    """Cut short in the middle, by somebody who wrote a new list of files."""
    path = checkpoint / "pretrained_model" / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PositronicError, match=f"{name} cannot be .*Use another checkpoint"):
        registry.load_intact("lerobot", checkpoint, "cpu")


def test_values_that_cannot_be_built_are_refused(recipe, stats, tiny_act):
    """What lerobot's config class lets through, its network may still refuse."""
    with pytest.raises(PositronicError, match="'act' cannot be built with these values: .*divisible"):
        make_trainable(PolicySpec(recipe, stats, tiny_act | {"n_heads": 3}, "cpu"))


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"type": "diffusion", "crop_shape": None}, r"keeps a history .*Type vendor\.policy\.n_obs_steps=1"),
        ({"type": "diffusion", "n_obs_steps": 1}, r"noise_scheduler_type=DDPM.*Type .*noise_scheduler_type=DDIM"),
        ({"type": "groot"}, "type vendor=gr00t, which trains it"),
        ({"type": "pi05"}, "type vendor=openpi, which trains it"),
    ],
)
def test_a_policy_that_robots_cannot_share_is_refused(recipe, stats, policy, said):
    """It predicts from what it saw before, or draws for the whole batch, or another vendor has its recipe."""
    with pytest.raises(PositronicError, match=said):
        make_trainable(PolicySpec(recipe, stats, policy, "cpu"))


@pytest.mark.parametrize(
    ("mode", "missing"),
    [("MEAN_STD", "std"), ("MIN_MAX", "max"), ("QUANTILES", "q01, q99"), ("QUANTILE10", "q10, q90")],
)
def test_statistics_that_the_policy_needs_are_not_left_out_silently(recipe, stats, tiny_act, mode, missing):
    """LeRobot would feed the column as it is."""
    for name in missing.split(", "):
        stats["observation.state"].pop(name, None)
    tiny_act["normalization_mapping"] = {"VISUAL": "MEAN_STD", "STATE": mode, "ACTION": "MEAN_STD"}
    with pytest.raises(PositronicError, match=rf"'observation\.state'.*normalises it by .*lack {missing}.*IDENTITY"):
        make_trainable(PolicySpec(recipe, stats, tiny_act, "cpu"))


def test_training_may_start_from_a_checkpoint(checkpoint, recipe, stats, tiny_act):
    """Its weights are taken, whatever they are normalised by now."""
    own = trained(checkpoint, recipe, stats, tiny_act)
    torch.manual_seed(1)
    other = make_trainable(PolicySpec(recipe, stats, tiny_act | {"dropout": 0.3}, "cpu", base=checkpoint))
    for left, right in zip(own.module.state_dict().values(), other.module.state_dict().values(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chunk_size": 5}, r"vendor\.policy\.chunk_size: vendor\.base=.* has 4; this run has 5"),
        ({"dim_model": 64}, r"vendor\.policy\.dim_model: the checkpoint has 32, this run has 64"),
    ],
)
def test_another_horizon_or_width_than_the_base_has_is_refused(checkpoint, recipe, stats, tiny_act, change, said):
    trained(checkpoint, recipe, stats, tiny_act)
    with pytest.raises(PositronicError, match=said):
        make_trainable(PolicySpec(recipe, stats, tiny_act | change, "cpu", base=checkpoint))


def test_another_codec_than_the_base_has_is_refused(checkpoint, recipe, stats, tiny_act):
    """Both sides are printed."""
    trained(checkpoint, recipe, stats, tiny_act)
    config = positronic.compose(["stage=train", "codec=joints", "modality.image_size=[32,32]"])
    other = build(config.codec, config.modality)
    columns = {column.name: stats[column.name] for column in other.modality.columns}
    with pytest.raises(PositronicError, match=r"do not agree:\n(.*\n)*.*this run has"):
        make_trainable(PolicySpec(other, columns, tiny_act, "cpu", base=checkpoint))


def trained(checkpoint, recipe, stats, policy):
    """The policy in ``checkpoint``, which says now what a run of stage=train says of it."""
    own = make_trainable(PolicySpec(recipe, stats, policy, "cpu"))
    own.load(checkpoint / "pretrained_model")
    said = {"step": 1, "vendor": "lerobot", "recipe": recipe.to_dict(), "training": {"policy": own.fields}}
    write_info(checkpoint, said)
    return own


def test_the_checkpoint_may_move(checkpoint, tmp_path, observation):
    """Nothing in it is an absolute path."""
    before = registry.load_model("lerobot", checkpoint, "cpu").predict([observation()])
    moved = shutil.copytree(checkpoint, tmp_path.with_name("moved"))
    shutil.rmtree(checkpoint)
    np.testing.assert_array_equal(registry.load_model("lerobot", moved, "cpu").predict([observation()]), before)
